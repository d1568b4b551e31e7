//! Draws what was found, as SVG: one line for each combination of what differs besides the x axis.

use super::{GIVEN, Outcome};
use mooring::config::duration;
use plotters::prelude::*;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// A plot.
struct Plot {
    file: &'static str,
    title: &'static str,
    /// The column of the x axis, one of [`GIVEN`].
    x: &'static str,
    value: fn(&Outcome) -> f64,
    /// Where lines leave room.
    legend: SeriesLabelPosition,
}

fn plots() -> [Plot; 3] {
    [
        Plot {
            file: "fleet-hits.svg",
            title: "hit ratio (%)",
            x: "ttl",
            value: |found| found.counts.hit_ratio() * 100.0,
            legend: SeriesLabelPosition::UpperLeft,
        },
        Plot {
            file: "fleet-lookups.svg",
            title: "lookups a second",
            x: "ttl",
            value: |found| found.a_second(found.counts.lookups),
            legend: SeriesLabelPosition::MiddleRight,
        },
        Plot {
            file: "fleet-renewals.svg",
            title: "renewals a second",
            x: "idle_timeout",
            value: |found| found.a_second(found.counts.renewals),
            legend: SeriesLabelPosition::UpperRight,
        },
    ]
}

/// What can be told apart, by people who see colours differently too (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
];

/// Draws each plot of which the x axis has several values.
pub fn draw(found: &[Outcome], folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for plot in plots() {
        let lines = lines(found, &plot);
        if lines.iter().any(|(_, points)| points.len() > 1) {
            let file = folder.join(plot.file);
            draw_lines(&plot, &lines, &file).map_err(|error| format!("{}: {error}", file.display()))?;
        }
    }
    Ok(())
}

type Line = (String, Vec<(f64, f64)>);

/// The points of each line, by its name.
fn lines(found: &[Outcome], Plot { x, value, .. }: &Plot) -> Vec<Line> {
    let differs =
        |column: usize| found.iter().any(|outcome| GIVEN[column].1(&outcome.case) != GIVEN[column].1(&found[0].case));
    let named: Vec<usize> = (0..GIVEN.len()).filter(|column| GIVEN[*column].0 != *x && differs(*column)).collect();
    let across = GIVEN.iter().find(|column| column.0 == *x);
    let mut lines: Vec<Line> = Vec::new();
    for outcome in found {
        let parts = named.iter().map(|column| format!("{} {}", GIVEN[*column].0, GIVEN[*column].1(&outcome.case)));
        let name = parts.collect::<Vec<_>>().join(", ");
        let at = across.and_then(|column| column.2(&outcome.case).parse().ok());
        let point = at.map(|at: f64| (at, value(outcome)));
        match lines.iter_mut().find(|(known, _)| *known == name) {
            Some((_, points)) => points.extend(point),
            None => lines.push((name, point.into_iter().collect())),
        }
    }
    lines
}

fn draw_lines(
    Plot { title, x, legend, .. }: &Plot,
    lines: &[Line],
    file: &Path,
) -> Result<(), Box<dyn std::error::Error>> {
    let points = || lines.iter().flat_map(|(_, points)| points);
    let least = points().map(|point| point.0).fold(f64::INFINITY, f64::min);
    let most = points().map(|point| point.0).fold(0.0, f64::max);
    let mut marks: Vec<f64> = points().map(|point| point.0).collect();
    marks.sort_by(f64::total_cmp);
    marks.dedup();
    let highest = points().map(|point| point.1).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let area = SVGBackend::new(file, (820, 460)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(format!("{title}, by {x}"), ("sans-serif", 20))
        .margin(15)
        .x_label_area_size(45)
        .y_label_area_size(75)
        .build_cartesian_2d((least..most).log_scale().with_key_points(marks), 0.0..highest * 1.05)?;
    chart
        .configure_mesh()
        .x_desc(*x)
        .y_desc(*title)
        .light_line_style(TRANSPARENT)
        .x_label_formatter(&|at| duration::show(Duration::from_secs_f64(*at)))
        .y_label_formatter(&|at| format!("{at:.0}"))
        .draw()?;
    for ((name, points), colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
            .label(name.as_str())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
    }
    if lines.len() > 1 {
        let legend = legend.clone();
        chart.configure_series_labels().position(legend).background_style(WHITE.mix(0.8)).border_style(BLACK).draw()?;
    }
    area.present()?;
    Ok(())
}
