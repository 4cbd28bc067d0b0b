//! A web server on loopback that knows ranges, and whose connections may break off. It knows one file and no other method than GET.
//!
//! Read [`Server`].

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

/// Each item is what it has at one request: the `ETag` (none if it is empty), the body, and after how many bytes it breaks off; a body of none at all is
/// an answer of 503. The last one stays. Ends when it is asked for `/stop`; returns the requests.
pub struct Server {
    pub url: String,
    thread: JoinHandle<Vec<String>>,
}

impl Server {
    pub fn start(answers: Vec<(&'static str, Vec<u8>, usize)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let mut requests: Vec<String> = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 4096];
                let read = stream.read(&mut request).unwrap();
                let request = String::from_utf8_lossy(&request[..read]).into_owned();
                if request.starts_with("GET /stop") {
                    return requests;
                }
                let (tag, body, most) = &answers[requests.len().min(answers.len() - 1)];
                answer(&mut stream, &request, tag, body, *most);
                requests.push(request);
            }
        });
        Self { url, thread }
    }

    pub fn stop(self) -> Vec<String> {
        TcpStream::connect(self.url.trim_start_matches("http://")).unwrap().write_all(b"GET /stop").unwrap();
        self.thread.join().unwrap()
    }
}

pub fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    request.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// Answers one request with at most `most` bytes of the body.
pub fn answer(stream: &mut TcpStream, request: &str, tag: &str, body: &[u8], most: usize) {
    let asked = header(request, "Range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let same = header(request, "If-Range").is_none_or(|seen| seen == tag);
    let from = asked.filter(|_| same).unwrap_or(0);
    let empty = if body.is_empty() { Some("503 Service Unavailable") } else { (from >= body.len()).then_some("416 Range Not Satisfiable") };
    if let Some(status) = empty {
        let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    }
    let status = if from > 0 {
        format!("206 Partial Content\r\nContent-Range: bytes {from}-{}/{}", body.len() - 1, body.len())
    } else {
        "200 OK".into()
    };
    let tag = if tag.is_empty() { String::new() } else { format!("ETag: {tag}\r\n") };
    write!(stream, "HTTP/1.1 {status}\r\n{tag}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len() - from).unwrap();
    let to = body.len().min(from + most);
    // The client may have had enough.
    let _ = stream.write_all(&body[from..to]);
}
