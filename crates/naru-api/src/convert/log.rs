//! `LogConfig`: drivers by name. naru keeps every log itself and bounded; `json-file` and `local` both mean that.

use naru_types::spec::LogSpec;
use naru_types::{Error, Result, quantity};
use naru_wire::host_config::LogConfig;

pub const DRIVER_DEFAULT: &str = "json-file";

pub fn log_spec(config: &LogConfig) -> Result<LogSpec> {
    let mut spec = LogSpec { options: config.config.clone(), ..LogSpec::default() };
    match config.kind.as_str() {
        "" => {}
        "json-file" | "local" => spec.driver.clone_from(&config.kind),
        "none" => {
            spec.enabled = false;
            spec.driver = "none".into();
        }
        other => {
            return Err(Error::invalid(format!("logger: no log driver named '{other}' is registered"))
                .with_hint("naru has json-file, local and none"));
        }
    }
    for (key, value) in &config.config {
        apply(&mut spec, key, value)?;
    }
    Ok(spec)
}

fn apply(spec: &mut LogSpec, key: &str, value: &str) -> Result<()> {
    let invalid = || Error::invalid(format!("invalid value for log option {key:?}: {value:?}"));
    match key {
        "max-size" if value == "-1" => spec.file_bytes_max = u64::MAX,
        "max-size" => {
            let bytes = quantity::parse_bytes(value).filter(|bytes| *bytes > 0).ok_or_else(invalid)?;
            spec.file_bytes_max = bytes as u64;
        }
        "max-file" => spec.files_max = value.parse().ok().filter(|count| *count > 0).ok_or_else(invalid)?,
        // A full log never blocks a container of naru: files rotate, and what the options ask for holds already.
        "mode" if value == "blocking" => {}
        "compress" if value == "false" => {}
        "mode" | "compress" | "max-buffer-size" | "labels" | "labels-regex" | "env" | "env-regex" | "tag" => {
            return Err(Error::not_implemented(format!("log option {key}={value} is not supported by naru"))
                .with_hint("supported: max-size, max-file"));
        }
        _ => return Err(Error::invalid(format!("unknown log opt '{key}' for {} log driver", spec.driver))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_and_options() {
        let config = |kind: &str, key: &str, value: &str| LogConfig {
            kind: kind.into(),
            config: [(key.to_owned(), value.to_owned())]
                .into_iter()
                .filter(|(key, _)| !key.is_empty())
                .collect(),
        };
        assert_eq!(log_spec(&config("", "max-size", "10m")).unwrap().file_bytes_max, 10 << 20);
        assert_eq!(log_spec(&config("local", "max-file", "3")).unwrap().files_max, 3);
        assert!(!log_spec(&config("none", "", "")).unwrap().enabled);
        for (kind, key, value) in
            [("syslog", "", ""), ("", "max-size", "x"), ("", "tag", "t"), ("", "nope", "1")]
        {
            assert!(log_spec(&config(kind, key, value)).is_err(), "{kind} {key}");
        }
    }
}
