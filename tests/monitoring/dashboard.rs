//! The dashboard: what Grafana would ask of it, and that its panels stand where they can be seen. `dashboard.py` looks at its fields.

use crate::stage::shipped;
use mooring_test_kit::servers::prometheus::Prometheus;
use serde_json::Value;
use std::collections::BTreeSet;

/// Grafana's variables, as for all jobs and Envoys and the last five minutes.
fn substituted(expression: &str) -> String {
    let all = [("$job", ".+"), ("$instance", ".+"), ("$__rate_interval", "5m"), ("$__range", "5m")];
    let expression = all.iter().fold(expression.to_owned(), |text, (name, value)| text.replace(name, value));
    assert!(!expression.contains('$'), "a variable is left in {expression}");
    expression
}

fn panels(dashboard: &Value) -> &Vec<Value> {
    dashboard["panels"].as_array().expect("panels")
}

/// Asks whatever the dashboard asks.
pub fn every_query_returns_data(prometheus: &Prometheus) {
    let dashboard = shipped("grafana.json");
    let mut asked = 0;
    for panel in panels(&dashboard) {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = substituted(target["expr"].as_str().expect("an expression"));
            let samples = prometheus.query(&expression);
            let number = samples.iter().any(|(_, value)| value.is_finite());
            assert!(number, "{}: no data: {expression}: {samples:?}", panel["title"]);
            let legend = target["legendFormat"].as_str().expect("a legend");
            for label in legend.split("{{").skip(1).filter_map(|rest| rest.split("}}").next()) {
                assert!(
                    samples.iter().any(|(labels, _)| labels.contains_key(label)),
                    "{legend}: {expression}: {samples:?}"
                );
            }
            asked += 1;
        }
    }
    assert!(asked > 20, "{asked} queries");

    for variable in dashboard["templating"]["list"].as_array().expect("variables") {
        let Some(query) = variable["query"].as_str().and_then(|query| query.strip_prefix("label_values(")) else {
            assert_eq!(variable["type"], "datasource");
            continue;
        };
        let (series, label) = query.trim_end_matches(')').rsplit_once(", ").expect("series and a label");
        let values = prometheus.ask(&format!("label/{label}/values"), &[("match[]", &substituted(series))]);
        assert!(!values.as_array().expect("values").is_empty(), "{query}");
    }
}

#[test]
fn panels_have_ids_of_their_own_and_do_not_overlap() {
    let dashboard = shipped("grafana.json");
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels(&dashboard) {
        assert!(ids.insert(panel["id"].as_u64().expect("a number")), "{}", panel["title"]);
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|name| panel["gridPos"][name].as_u64().expect("a number"));
        assert!(w > 0 && h > 0 && x + w <= 24, "{}", panel["title"]);
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{} overlaps at {cell:?}", panel["title"]);
        }
    }
}
