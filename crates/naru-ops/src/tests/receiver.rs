//! A Discord-like receiver on loopback that answers by a script, then with 204 for ever.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

#[derive(Clone, Copy, Debug)]
pub enum Answer {
    NoContent,
    /// Waits in milliseconds: in the body, in the header (whole seconds).
    Limited {
        body_ms: u64,
        header_secs: u64,
    },
    Error,
    Gone,
    /// Reads the request and closes without a word.
    HangUp,
}

pub struct Receiver {
    pub at: SocketAddr,
    pub got: Arc<Mutex<Vec<(Instant, Value)>>>,
}

impl Receiver {
    pub fn start(script: &[Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let got = Arc::new(Mutex::new(Vec::new()));
        let (kept, script) = (got.clone(), script.to_vec());
        let mut script = script.into_iter();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let Some(message) = read(&stream) else { continue };
                kept.lock().unwrap().push((Instant::now(), message));
                reply(&stream, script.next().unwrap_or(Answer::NoContent));
            }
        });
        Self { at, got }
    }

    pub fn titles(&self) -> Vec<String> {
        let got = self.got.lock().unwrap();
        got.iter().map(|(_, message)| message["embeds"][0]["title"].as_str().unwrap().to_owned()).collect()
    }
}

fn read(stream: &TcpStream) -> Option<Value> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = text.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}

fn reply(mut stream: &TcpStream, answer: Answer) {
    let head = |status: &str, more: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{more}\r\n{body}",
            body.len()
        )
    };
    let text = match answer {
        Answer::NoContent => "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n".to_owned(),
        Answer::Limited { body_ms, header_secs } => {
            let body =
                format!(r#"{{"message":"slow down","retry_after":{},"global":false}}"#, body_ms as f64 / 1e3);
            head("429 Too Many Requests", &format!("retry-after: {header_secs}\r\n"), &body)
        }
        Answer::Error => head("502 Bad Gateway", "", "<html>cloud</html>"),
        Answer::Gone => head("404 Not Found", "", r#"{"message":"Unknown Webhook","code":10015}"#),
        Answer::HangUp => return,
    };
    let _ = stream.write_all(text.as_bytes());
}
