//! Charts, as SVG on white.

use super::report::Row;
use super::statistics::Spread;
use plotters::prelude::*;
use std::path::Path;

const INK: RGBColor = RGBColor(40, 40, 40);
const BLUE: RGBColor = RGBColor(31, 119, 180);
const GREEN: RGBColor = RGBColor(44, 160, 44);
const GREY: RGBColor = RGBColor(150, 150, 150);
const LIGHT: RGBColor = RGBColor(225, 225, 225);

/// A bar for each row: the median, and a line from the first quartile to the third.
pub fn bars(path: &Path, title: &str, rows: &[Row]) {
    draw_bars(path, title, rows).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn draw_bars(path: &Path, title: &str, rows: &[Row]) -> Result<(), Box<dyn std::error::Error>> {
    let height = 80 + 26 * u32::try_from(rows.len())?;
    let area = SVGBackend::new(path, (900, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let widest = rows.iter().map(|row| row.cost.high).fold(0.0, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18).into_font().color(&INK))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(330)
        .build_cartesian_2d(0.0..widest, (0..rows.len() - 1).into_segmented())?;
    let name = |at: &SegmentValue<usize>| match at {
        SegmentValue::CenterOf(at) => {
            rows.iter().rev().nth(*at).map(|row| row.name.replace('`', "")).unwrap_or_default()
        }
        SegmentValue::Exact(_) | SegmentValue::Last => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(WHITE)
        .bold_line_style(LIGHT)
        .axis_style(GREY)
        .y_labels(rows.len())
        .y_label_formatter(&name)
        .x_label_formatter(&|value| format!("{value:.0}"))
        .label_style(("sans-serif", 13).into_font().color(&INK))
        .draw()?;
    for (at, row) in rows.iter().rev().enumerate() {
        let color = if row.name.starts_with("Mooring") { BLUE } else { GREY };
        let (bottom, top) = (SegmentValue::Exact(at), SegmentValue::Exact(at + 1));
        let mut bar = Rectangle::new([(0.0, bottom), (row.cost.median, top)], color.filled());
        bar.set_margin(4, 4, 0, 0);
        chart.draw_series([bar])?;
        let middle = SegmentValue::CenterOf(at);
        chart
            .draw_series([PathElement::new([(row.cost.low, middle.clone()), (row.cost.high, middle.clone())], INK)])?;
        let style = ("sans-serif", 12).into_font().color(&INK);
        let label = Text::new(format!("{:.1}", row.cost.median), (row.cost.high.max(row.cost.median), middle), style);
        chart.draw_series([label])?;
    }
    area.present()?;
    Ok(())
}

/// What one contestant cost at each point.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, Spread)>,
}

/// Lines over a logarithmic axis.
pub fn lines(path: &Path, axis: &str, title: &str, lines: &[Line]) {
    draw_lines(path, axis, title, lines).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn draw_lines(path: &Path, axis: &str, title: &str, lines: &[Line]) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::new(path, (900, 400)).into_drawing_area();
    area.fill(&WHITE)?;
    let points = || lines.iter().flat_map(|line| &line.points);
    let (first, last) = points().fold((f64::MAX, 0.0_f64), |(low, high), point| (low.min(point.0), high.max(point.0)));
    let highest = points().map(|point| point.1.high).fold(0.0, f64::max) * 1.15;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18).into_font().color(&INK))
        .margin(15)
        .x_label_area_size(45)
        .y_label_area_size(55)
        .build_cartesian_2d((first..last * 1.05).log_scale(), 0.0..highest)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(LIGHT)
        .axis_style(GREY)
        .x_desc(axis)
        .x_label_formatter(&|value| format!("{value:.0}"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .label_style(("sans-serif", 13).into_font().color(&INK))
        .draw()?;
    for (line, color) in lines.iter().zip([GREY, BLUE, GREEN].into_iter().cycle()) {
        let medians = line.points.iter().map(|(at, cost)| (*at, cost.median));
        let drawn = chart.draw_series(LineSeries::new(medians.clone(), color.stroke_width(2)).point_size(3))?;
        drawn.label(&line.name).legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2)));
        chart.draw_series(
            line.points.iter().map(|(at, cost)| PathElement::new([(*at, cost.low), (*at, cost.high)], color)),
        )?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE)
        .border_style(LIGHT)
        .label_font(("sans-serif", 13).into_font().color(&INK))
        .draw()?;
    area.present()?;
    Ok(())
}
