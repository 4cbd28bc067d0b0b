//! A vault behind a network: downloads that break off, go on, or never begin.

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;

use hangproof::spec::{Location, Srpm};

use super::bench::{Bench, FILE, TARBALL, digests};
use super::web::{Server, answer, header};

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

/// A server that names no version: what was downloaded is longer than what it has now.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_longer_than_the_file_begins_anew() {
    let bench = Bench::new();
    let package = fs::read(bench.package()).unwrap();
    let longer = [package.clone(), vec![0; 1000]].concat();
    let server = Server::start(vec![("", longer, package.len() + 10), ("", package.clone(), package.len())]);
    bench.fetch(&at(&bench, &server.url, &package)).await.unwrap();
    let requests = server.stop();
    let ranges: Vec<_> = requests.iter().map(|request| header(request, "Range")).collect();
    assert_eq!(ranges, [None, Some(format!("bytes={}-", package.len() + 10).as_str()), None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_busy_is_asked_again() {
    let bench = Bench::new();
    let package = fs::read(bench.package()).unwrap();
    let half = package.len() / 2;
    let server =
        Server::start(vec![("", vec![], 0), ("\"a\"", package.clone(), half), ("", vec![], 0), ("\"a\"", package.clone(), package.len())]);
    bench.fetch(&at(&bench, &server.url, &package)).await.unwrap();
    assert_eq!(header(&server.stop()[3], "Range"), Some(format!("bytes={half}-").as_str()), "what is there is good");
}

/// Of a package from a network whose tarball alone has a digest, nobody vouches for the rest.
#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_nothing_vouches_for_is_told() {
    let bench = Bench::new();
    let package = fs::read(bench.package()).unwrap();
    let server = Server::start(vec![("\"a\"", package.clone(), package.len())]);
    let (sha256, _) = digests(&super::tarball());
    let tarball = hangproof::spec::SrpmTarball { name: TARBALL.into(), digest: hangproof::spec::PublishedDigest::Sha256(sha256) };
    let srpm = Srpm { sha256: None, tarball: Some(tarball), ..at(&bench, &server.url, &package) };
    let (fetched, warnings) = bench.fetch_warned(&srpm).await;
    fetched.unwrap();
    let warned = format!(
        "{FILE} from {}: only its tarball has a digest in the definition, and nothing vouches for its spec file, patches and configurations: \
         add `sha256:` of the package, or a `key:` that signed it",
        server.url
    );
    assert_eq!(warnings, [warned]);
    server.stop();
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
