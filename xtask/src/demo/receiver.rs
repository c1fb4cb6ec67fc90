//! A webhook receiver that behaves as Discord's: it answers the first message with 429 and a time to wait, the rest
//! with 204, and keeps what it got.

use crate::process::Result;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

const WAIT_SECS_MAX: u64 = 60;

#[derive(Default)]
struct Inbox {
    alerts: Vec<Value>,
    refused_once: bool,
}

pub struct Receiver {
    port: u16,
    inbox: Arc<(Mutex<Inbox>, Condvar)>,
}

impl Receiver {
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let inbox = Arc::new((Mutex::new(Inbox::default()), Condvar::new()));
        let shared = Arc::clone(&inbox);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that hangs up is its own problem.
                let _ = answer(&stream, &shared);
            }
        });
        Ok(Self { port, inbox })
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/api/webhooks/1/demo", self.port)
    }

    /// The first alert that fits, past ones included.
    pub fn wait_for(&self, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + Duration::from_secs(WAIT_SECS_MAX);
        let mut inbox = self.inbox.0.lock().map_err(|_| "receiver broke")?;
        loop {
            if let Some(alert) = inbox.alerts.iter().find(|alert| fits(alert)) {
                return Ok(alert.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("no such alert came; got {:#?}", inbox.alerts).into());
            }
            inbox = self.inbox.1.wait_timeout(inbox, left).map_err(|_| "receiver broke")?.0;
        }
    }

    pub fn titles(&self) -> Vec<String> {
        let inbox = self.inbox.0.lock().map(|inbox| inbox.alerts.clone()).unwrap_or_default();
        inbox.iter().filter_map(|alert| alert["embeds"][0]["title"].as_str().map(str::to_owned)).collect()
    }
}

fn answer(stream: &TcpStream, shared: &(Mutex<Inbox>, Condvar)) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream);
    let mut length = 0usize;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let alert: Value = serde_json::from_slice(&body)?;
    let mut inbox = shared.0.lock().map_err(|_| "receiver broke")?;
    let text = if inbox.refused_once {
        inbox.alerts.push(alert);
        shared.1.notify_all();
        "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n".to_owned()
    } else {
        inbox.refused_once = true;
        let body = r#"{"message":"You are being rate limited.","retry_after":0.3,"global":false}"#;
        format!(
            "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 1\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    (&mut &*stream).write_all(text.as_bytes())?;
    Ok(())
}

/// An embed as a person would see it.
pub fn tell(alert: &Value) -> String {
    let embed = &alert["embeds"][0];
    let mut lines = vec![format!("┃ {}", embed["title"].as_str().unwrap_or_default())];
    lines.extend(embed["description"].as_str().unwrap_or_default().lines().map(|line| format!("┃ {line}")));
    for field in embed["fields"].as_array().into_iter().flatten() {
        let value = field["value"].as_str().unwrap_or_default().replace('\n', "\n┃   ");
        lines.push(format!("┃ {}: {value}", field["name"].as_str().unwrap_or_default()));
    }
    lines.push(format!("┃ allowed_mentions: {}", alert["allowed_mentions"]));
    lines.join("\n")
}
