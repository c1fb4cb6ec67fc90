//! naru's own nouns: alerts, routes, deploys, the development CA.

use crate::client::Api;
use crate::flags::AlertsCommand;
use crate::{Outcome, output, table};
use naru_types::Error;
use serde_json::{Value, json};
use std::io::Read;

pub fn alerts(api: &Api, command: AlertsCommand) -> Outcome {
    match command {
        AlertsCommand::Webhook { url } => {
            // `-` keeps the secret out of the process list and the shell's history.
            let url = if url == "-" { read_secret()? } else { url };
            api.put("/naru/v1/settings", &json!({ "webhook": url.trim() }))?;
            output::talk("alerts go to this webhook from now on");
        }
        AlertsCommand::Test => {
            api.post("/naru/v1/webhook/test", None)?;
            output::talk("a test message is on its way; `naru alerts ls` shows whether it arrived");
        }
        AlertsCommand::Ls => {
            let list = api.get("/naru/v1/alerts")?;
            let rows = rows(&list, &["at", "title", "status", "error"]);
            output::raw(table::render(&["WHEN", "ALERT", "DELIVERY", "ERROR"], &rows).as_bytes());
        }
    }
    Ok(0)
}

fn read_secret() -> naru_types::Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Error::invalid("cannot read the webhook from standard input").with_source(error))?;
    Ok(text)
}

pub fn routes(api: &Api) -> Outcome {
    let answer = api.get("/naru/v1/routes")?;
    let https = answer["https"].as_str().unwrap_or_default();
    let rows: Vec<Vec<String>> = answer["routes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|route| {
            let backends: Vec<&str> =
                route["backends"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let text = |key: &str| route[key].as_str().unwrap_or_default().to_owned();
            vec![url(&text("host"), &text("path_prefix"), https), text("service"), backends.join(", ")]
        })
        .collect();
    output::raw(table::render(&["ROUTE", "SERVICE", "BACKENDS"], &rows).as_bytes());
    for problem in answer["problems"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        output::talk(format_args!("warning: {problem}"));
    }
    match answer["proxy_error"].as_str() {
        Some(error) if !error.is_empty() => {
            Err(Error::unavailable(format!("the routes are not served: {error}")).into())
        }
        _ => Ok(0),
    }
}

/// What a browser is told: the port only where it isn't HTTPS's own.
pub fn url(host: &str, path: &str, https: &str) -> String {
    match https.rsplit_once(':') {
        Some((_, port)) if port != "443" => format!("https://{host}:{port}{path}"),
        _ => format!("https://{host}{path}"),
    }
}

pub fn deploys(api: &Api) -> Outcome {
    let list = api.get("/naru/v1/deploys")?;
    let rows = rows(&list, &["started_at", "project", "status", "error"]);
    output::raw(table::render(&["WHEN", "PROJECT", "STATUS", "ERROR"], &rows).as_bytes());
    Ok(0)
}

pub fn ca(api: &Api) -> Outcome {
    let pem = api.text("/naru/v1/ca.pem")?;
    output::raw(pem.as_bytes());
    Ok(0)
}

/// Rows of a list of objects.
fn rows(list: &Value, keys: &[&str]) -> Vec<Vec<String>> {
    let cells =
        |item: &Value| keys.iter().map(|key| item[*key].as_str().unwrap_or_default().to_owned()).collect();
    list.as_array().into_iter().flatten().map(cells).collect()
}
