//! PURE. The plain text format of Prometheus, version 0.0.4, from OpenMetrics text.
//!
//! They differ in few lines: in the plain format the description of a counter has the name of its samples, with
//! `_total`; there are no units and no end mark; `info` is a gauge, and quotes in a description are bare. Source:
//! "Exposition formats" of the Prometheus documentation, and OpenMetrics 1.0.

use std::fmt::Write as _;

/// Turns OpenMetrics text into plain text.
pub(super) fn from_open_metrics(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut help = None;
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# HELP ") {
            help = described.split_once(' ').map(|(_, help)| help.replace("\\\"", "\""));
            continue;
        }
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|typed| typed.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            if let Some(help) = help.take() {
                writeln!(out, "# HELP {name}{suffix} {help}").expect("writing to a String cannot fail");
            }
            writeln!(out, "# TYPE {name}{suffix} {kind}").expect("writing to a String cannot fail");
            continue;
        }
        if !line.starts_with("# UNIT ") && line != "# EOF" {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_carry_the_names_of_their_samples() {
        let open = r#"# HELP checkind_build The "version" that runs.
# TYPE checkind_build info
checkind_build_info{version="0.1.0"} 1
# HELP checkind_taps Taps, also \"late\" ones.
# TYPE checkind_taps counter
checkind_taps_total{kind="a # b"} 17
# HELP checkind_lag_seconds Lag.
# TYPE checkind_lag_seconds histogram
# UNIT checkind_lag_seconds seconds
checkind_lag_seconds_sum 0.5
checkind_lag_seconds_count 1
checkind_lag_seconds_bucket{le="+Inf"} 1
# EOF
"#;
        let plain = r#"# HELP checkind_build_info The "version" that runs.
# TYPE checkind_build_info gauge
checkind_build_info{version="0.1.0"} 1
# HELP checkind_taps_total Taps, also "late" ones.
# TYPE checkind_taps_total counter
checkind_taps_total{kind="a # b"} 17
# HELP checkind_lag_seconds Lag.
# TYPE checkind_lag_seconds histogram
checkind_lag_seconds_sum 0.5
checkind_lag_seconds_count 1
checkind_lag_seconds_bucket{le="+Inf"} 1
"#;
        assert_eq!(from_open_metrics(open), plain);
    }
}
