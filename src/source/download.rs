//! Downloads: curl does them, this file watches how far they are.
//!
//! A download that broke off goes on where it ended, a few times at once and again in the next run, unless the server has another file by then. What
//! was downloaded is not to be used before its digest was checked, which is the caller's business.
//!
//! Read [`download`] first.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use super::SourceError;
use crate::event::{Event, Events};
use crate::program::{Deadline, Program, last_lines, written};

/// How often a download's size is reported.
const REPORT: Duration = Duration::from_millis(250);

/// Runs `work` and reports meanwhile how many bytes the files in `folder` have.
pub async fn watched<T>(work: impl Future<Output = T>, folder: &Path, what: &str, total: impl Fn() -> Option<u64>, events: &Events) -> T {
    let report = || events.send(Event::Download { what: what.to_owned(), bytes: written(folder), total: total() });
    let mut ticks = tokio::time::interval(REPORT);
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            result = &mut work => {
                report();
                return result;
            }
            _ = ticks.tick() => report(),
        }
    }
}

/// How long a download may bring nothing. curl and apt give up after a minute of it, or after a few attempts of half a minute each: this is for when they don't.
const STILL: Duration = Duration::from_secs(5 * 60);

/// The deadline of a program that downloads into a folder.
pub fn still(folder: &Path) -> Deadline {
    Deadline::Still(STILL, folder.to_owned())
}

/// How often a download that broke off is taken up again, in one call.
const TRIES: u32 = 5;

/// The pause before a download is taken up again; it doubles each time.
const PAUSE: Duration = Duration::from_millis(500);

/// Most bytes of a download: an EL7 kernel's source package has 100 MB, and its debuginfo 400.
const LARGEST: u64 = 8 << 30;

/// The file while it isn't whole.
const PART: &str = "archive.part";

/// What the server said that the part is of: an `ETag`, or else a date (RFC 9110, 13.1.5).
const VALIDATOR: &str = "validator";
/// The server's answer, as curl writes it.
const HEADERS: &str = "headers";

/// Downloads `url` into `folder`, where an earlier attempt may have left a part of it. Returns the file.
///
/// A part is kept when the download fails, and continued if the server still has the same file.
///
/// # Errors
/// When curl is missing, the server can't be reached, doesn't have the file or sends too much, or the connection broke [`TRIES`] times.
pub async fn download(url: &str, folder: &Path, events: &Events) -> Result<PathBuf, SourceError> {
    let part = folder.join(PART);
    tokio::select! {
        downloaded = whole(url, folder, events) => downloaded,
        () = larger_than(LARGEST, &part) => {
            let _ = std::fs::remove_file(&part);
            let why = format!("it sends more than {} GiB: name another file", LARGEST >> 30);
            Err(SourceError::Download { url: url.to_owned(), why })
        }
    }
}

/// Waits until a file has more bytes than this.
async fn larger_than(most: u64, file: &Path) {
    while std::fs::metadata(file).map_or(0, |metadata| metadata.len()) <= most {
        tokio::time::sleep(REPORT).await;
    }
}

/// The whole file, in as many attempts as it takes.
async fn whole(url: &str, folder: &Path, events: &Events) -> Result<PathBuf, SourceError> {
    let (part, whole) = (folder.join(PART), folder.join("archive"));
    let mut attempt = 1;
    loop {
        let (ended, output) = transfer(url, folder, &part, events).await?;
        match ended {
            Ended::Whole => {
                std::fs::rename(&part, &whole).map_err(super::failed("rename", &part))?;
                return Ok(whole);
            }
            Ended::NotWritten => return Err(not_written(&part, &last_lines(&output.stderr))),
            Ended::Unfit => drop(std::fs::remove_file(&part)),
            Ended::Broke | Ended::Refused => {}
        }
        if ended == Ended::Refused || attempt == TRIES {
            return Err(SourceError::Download { url: url.to_owned(), why: last_lines(&output.stderr) });
        }
        tokio::time::sleep(PAUSE * 2_u32.pow(attempt - 1)).await;
        attempt += 1;
    }
}

/// curl couldn't write what it got (curl(1), EXIT CODES: 23); of its reason it says nothing.
fn not_written(part: &Path, said: &str) -> SourceError {
    let full = part.parent().and_then(|folder| rustix::fs::statvfs(folder).ok()).is_some_and(|filesystem| filesystem.f_bavail == 0);
    let cause = if full { std::io::ErrorKind::StorageFull.into() } else { std::io::Error::other(said.to_owned()) };
    super::failed("write", part)(cause)
}

/// How a transfer ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// The whole file is there.
    Whole,
    /// What came couldn't be written, which isn't the server's fault.
    NotWritten,
    /// The connection broke: what is there is good.
    Broke,
    /// The server can't go on from what is there, or has another file now.
    Unfit,
    /// There is nobody, or they don't have it.
    Refused,
}

impl Ended {
    /// By curl's exit code (curl(1), EXIT CODES) and the server's status; `goes_on` says that a part was there before.
    fn of(code: Option<i32>, status: Option<u16>, goes_on: bool) -> Self {
        match (code, status) {
            // The part is as long as the file or longer, and nobody knows which; curl takes it for whole.
            (Some(0 | 22), Some(416)) if goes_on => Self::Unfit,
            (Some(0), _) => Self::Whole,
            // Not now, or the server's own trouble: as if the connection had broken.
            (Some(22), Some(408 | 429 | 500..=599)) => Self::Broke,
            (Some(23), _) => Self::NotWritten,
            // Partial file, timeout, empty reply, send and receive errors, HTTP/2 and HTTP/3 streams.
            (Some(16 | 18 | 28 | 52 | 55 | 56 | 92 | 95), _) => Self::Broke,
            // No ranges, bad resume.
            (Some(33 | 36), _) => Self::Unfit,
            _ => Self::Refused,
        }
    }
}

/// One run of curl, which adds to the part.
async fn transfer(url: &str, folder: &Path, part: &Path, events: &Events) -> Result<(Ended, Output), SourceError> {
    let headers = folder.join(HEADERS);
    let already = std::fs::metadata(part).map_or(0, |metadata| metadata.len());
    let validator = folder.join(VALIDATOR);
    // Who asked for a safe way isn't led to another.
    let redirects = if url.starts_with("https://") { "=https" } else { "=http,https" };
    let mut curl = Program::new("curl", "curl").within(still(folder));
    curl.command
        .args(["--fail", "--location", "--silent", "--show-error", "--connect-timeout", "30"])
        .args(["--speed-limit", "1024", "--speed-time", "60", "--proto", "=http,https", "--proto-redir", redirects, "--continue-at", "-"])
        .arg("--dump-header")
        .arg(&headers)
        .arg("--output")
        .arg(part);
    if let (true, Ok(seen)) = (already > 0, std::fs::read_to_string(&validator)) {
        curl.command.args(["--header", &format!("If-Range: {seen}")]);
    }
    curl.command.args(["--url", url]);
    let said = || std::fs::read_to_string(&headers).unwrap_or_default();
    let total = || header(&said(), "content-length").and_then(|length| length.parse::<u64>().ok()).map(|length| length + already);
    let output = watched(curl.output(), folder, url, total, events).await?;
    let said = said();
    if let Some(seen) = header(&said, "etag").filter(|tag| !tag.starts_with("W/")).or_else(|| header(&said, "last-modified")) {
        std::fs::write(&validator, seen).map_err(super::failed("write", &validator))?;
    }
    Ok((Ended::of(output.status.code(), status(&said), already > 0), output))
}

/// The lines of a redirected transfer's last answer.
fn last_answer(headers: &str) -> impl Iterator<Item = &str> {
    headers[headers.rfind("\nHTTP/").map_or(0, |end| end + 1)..].lines()
}

/// Its status.
fn status(headers: &str) -> Option<u16> {
    last_answer(headers).next()?.split_whitespace().nth(1)?.parse().ok()
}

/// One of its headers.
fn header<'a>(headers: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = last_answer(headers).filter_map(|line| line.split_once(':'));
    lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_last_answer_counts() {
        let said =
            "HTTP/1.1 302 Found\r\nETag: \"a\"\r\n\r\nHTTP/2 503 \r\nVia: HTTP/1.1 x\r\netag: \"b\"\r\nServer: SimpleHTTP/0.6\r\n\r\n";
        assert_eq!((status(said), header(said, "ETag"), header(said, "Server")), (Some(503), Some("\"b\""), Some("SimpleHTTP/0.6")));
        assert_eq!((status(""), header("", "ETag")), (None, None));
    }

    /// Says that a test's process is the child of another test, and where its server is.
    const CHILD: &str = "HANGPROOF_TEST_DOWNLOADS";

    #[test]
    fn curl_ends_with_us_even_if_we_are_killed() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file", server.local_addr().unwrap());
        // Ours, because who is killed removes nothing.
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "source::download::tests::child_downloads"]).env(CHILD, url).current_dir(&folder).stdout(Stdio::null());
        let mut child = child.spawn().unwrap();
        let (mut connection, _) = server.accept().unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") {
            connection.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        assert!(request.starts_with(b"GET /file "));
        connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx").unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        // curl's end is the connection's.
        let ended = connection.read_to_end(&mut request);
        assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset), "curl goes on");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_without_end_is_left() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file", server.local_addr().unwrap());
        let endless = std::thread::spawn(move || {
            let (mut connection, _) = server.accept().unwrap();
            connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            while connection.write_all(&[0; 1 << 16]).is_ok() {}
        });
        let (folder, events) = (tempfile::tempdir().unwrap(), Events::ignored());
        let part = folder.path().join(PART);
        tokio::select! {
            ended = whole(&url, folder.path(), &events) => panic!("{ended:?}"),
            () = larger_than(1 << 20, &part) => {}
        }
        // curl ends with whoever waits for it.
        tokio::task::spawn_blocking(|| endless.join()).await.unwrap().unwrap();
    }

    /// Part of the test before it, by itself nothing.
    #[tokio::test]
    async fn child_downloads() {
        let Some(url) = std::env::var_os(CHILD) else { return };
        let downloaded = download(url.to_str().unwrap(), Path::new("."), &Events::ignored()).await;
        panic!("{downloaded:?} before it was killed");
    }
}
