//! Medians and quartiles.

/// The middle of some figures, and where the middle half of them lies.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub low: f64,
    pub median: f64,
    pub high: f64,
}

impl Spread {
    /// Of figures that there are.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        assert!(!figures.is_empty() && figures.iter().all(|figure| figure.is_finite()), "{figures:?}");
        figures.sort_by(f64::total_cmp);
        let last = figures.len() - 1;
        // Between the two figures that stand around it.
        let at = |part: usize| {
            let (below, between) = (last * part / 4, (last * part % 4) as f64 / 4.0);
            figures[below] + between * (figures[(below + 1).min(last)] - figures[below])
        };
        Self { low: at(1), median: at(2), high: at(3) }
    }
}

/// The slope of the line that lies nearest to some points.
pub fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let covariance: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    covariance / points.iter().map(|point| (point.0 - x).powi(2)).sum::<f64>()
}
