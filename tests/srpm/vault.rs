//! A vault behind a network: downloads that break off, go on, or never begin.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use hangproof::spec::{Location, Srpm};

use super::bench::{Bench, FILE, TARBALL, digests};

/// A web server that knows ranges. Each item is what it has at one request: the `ETag`, the body, and after how many bytes it breaks off. The last one
/// stays. Ends when it is asked for `/stop`; returns the requests.
struct Server {
    url: String,
    thread: JoinHandle<Vec<String>>,
}

impl Server {
    fn start(answers: Vec<(&'static str, Vec<u8>, usize)>) -> Self {
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

    fn stop(self) -> Vec<String> {
        TcpStream::connect(self.url.trim_start_matches("http://")).unwrap().write_all(b"GET /stop").unwrap();
        self.thread.join().unwrap()
    }
}

fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    request.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn answer(stream: &mut TcpStream, request: &str, tag: &str, body: &[u8], most: usize) {
    let asked = header(request, "Range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let same = header(request, "If-Range").is_none_or(|seen| seen == tag);
    let from = asked.filter(|_| same).unwrap_or(0);
    let status = if from > 0 {
        format!("206 Partial Content\r\nContent-Range: bytes {from}-{}/{}", body.len() - 1, body.len())
    } else {
        "200 OK".into()
    };
    write!(stream, "HTTP/1.1 {status}\r\nETag: {tag}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len() - from).unwrap();
    let to = body.len().min(from + most);
    // The client may have had enough.
    let _ = stream.write_all(&body[from..to]);
}

fn at(bench: &Bench, url: &str, package: &[u8]) -> Srpm {
    let sha256 = Some(digests(package).0);
    Srpm { vault: Location::Url(url.to_owned()), path: "7.9.2009/os/Source".into(), sha256, ..bench.srpm() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_breaks_off_goes_on() {
    let bench = Bench::new();
    let package = fs::read(bench.package()).unwrap();
    let half = package.len() / 2;
    let server = Server::start(vec![("\"a\"", package.clone(), half), ("\"a\"", package.clone(), package.len())]);
    bench.fetch(&at(&bench, &server.url, &package)).await.unwrap();
    let requests = server.stop();
    assert_eq!(requests.len(), 2);
    assert!(requests[0].starts_with(&format!("GET /7.9.2009/os/Source/{FILE} ")));
    assert_eq!((header(&requests[0], "Range"), header(&requests[0], "If-Range")), (None, None));
    assert_eq!(header(&requests[1], "Range"), Some(format!("bytes={half}-").as_str()));
    assert_eq!(header(&requests[1], "If-Range"), Some("\"a\""));
    assert!(
        fs::read_dir(bench.store.root().join("sources"))
            .unwrap()
            .flatten()
            .all(|entry| entry.file_name().to_string_lossy().starts_with("srpm-"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_goes_on_in_the_next_run_and_begins_anew_when_the_file_changed() {
    let bench = Bench::new();
    let package = fs::read(bench.package()).unwrap();
    let piece = package.len() / 12;
    let server = Server::start(vec![("\"a\"", package.clone(), piece)]);
    let srpm = at(&bench, &server.url, &package);
    let address = server.url.trim_start_matches("http://").to_owned();
    let error = bench.error(&srpm).await;
    assert!(error.contains("; bring "), "{error}");
    let requests = server.stop();
    assert_eq!(requests.len(), 5, "a bounded number of times");
    // The same address, another file: what was downloaded of the first is of no use.
    let listener = TcpListener::bind(&address).unwrap();
    let body = package.clone();
    let next = std::thread::spawn(move || {
        let mut requests = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            answer(&mut stream, &request, "\"b\"", &body, body.len());
            requests.push(request);
        }
        requests
    });
    bench.fetch(&srpm).await.unwrap();
    let requests = next.join().unwrap();
    assert_eq!(header(&requests[0], "Range"), Some(format!("bytes={}-", 5 * piece).as_str()), "where the first run ended");
    assert_eq!(header(&requests[1], "Range"), None);
}

#[tokio::test]
async fn a_vault_that_cannot_be_reached_says_how_to_bring_the_file() {
    let bench = Bench::new();
    bench.package();
    let mut srpm = at(&bench, "http://127.0.0.1:1", b"");
    let error = bench.error(&srpm).await;
    assert!(error.starts_with(&format!("download http://127.0.0.1:1/7.9.2009/os/Source/{FILE}: curl: (7) ")), "{error}");
    assert!(
        error.ends_with(&format!("; bring {FILE} into a folder by other means, and name it with --vault FOLDER or HANGPROOF_VAULT")),
        "{error}"
    );
    let digest = hangproof::spec::PublishedDigest::Sha1("0".repeat(40));
    srpm.tarball = Some(hangproof::spec::SrpmTarball { name: TARBALL.into(), digest });
    assert!(bench.error(&srpm).await.contains(&format!("; bring {FILE} or {TARBALL} into a folder")));
}
