//! From git: `git http-backend`, behind as little of a web server as it needs.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tests::cli::finish;
use tests::{Host, isolated};

use super::super::packages::Author;
use super::{left, plain};

const ADDRESS: &str = "127.0.0.1:8418";

/// A repository and who serves it. The thread ends with the test's process.
struct Git {
    work: PathBuf,
}

impl Git {
    /// `stall`: answers to what was asked first, and then nothing.
    fn start(root: &Path, stall: bool) -> Self {
        let work = root.join("notes.git");
        fs::create_dir(&work).unwrap();
        let git = Self { work };
        git.run(&["init", "-q", "-b", "main"]);
        let (root, listener) = (root.to_owned(), TcpListener::bind(ADDRESS).unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let root = root.clone();
                std::thread::spawn(move || serve(&root, stream.unwrap(), stall));
            }
        });
        git
    }

    fn run(&self, arguments: &[&str]) -> String {
        let mut git = Command::new("git");
        git.current_dir(&self.work).args([
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b",
            "-c",
            "protocol.file.allow=always",
        ]);
        finish(
            {
                git.args(arguments);
                git
            },
            b"",
        )
        .ok()
        .out()
    }

    /// Commits everything that is there, and says which commit it is.
    fn commit(&self) -> String {
        self.run(&["add", "-A"]);
        self.run(&["commit", "-q", "-m", "all"]);
        self.run(&["rev-parse", "HEAD"])
    }

    fn put(&self, bundle: &str, name: &str) {
        let path = self.work.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(bundle, path).unwrap();
    }
}

fn url(rest: &str) -> String {
    format!("git+http://{ADDRESS}/notes.git{rest}")
}

/// One request, by CGI (RFC 3875).
fn serve(root: &Path, stream: TcpStream, stall: bool) {
    let mut reader = BufReader::new(&stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    let first = line();
    let Some((method, path)) = first.split_once(' ') else { return };
    let path = path.split(' ').next().unwrap();
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut headers = Vec::new();
    loop {
        let header = line();
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').unwrap();
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let header =
        |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let mut body = Vec::new();
    if header("transfer-encoding").is_some() {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).unwrap();
            let size = u64::from_str_radix(size.trim(), 16).unwrap();
            reader.by_ref().take(size).read_to_end(&mut body).unwrap();
            reader.read_line(&mut String::new()).unwrap();
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = header("content-length") {
        reader.by_ref().take(length.parse().unwrap()).read_to_end(&mut body).unwrap();
    }
    if stall && method == "POST" {
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    let mut backend = Command::new("git");
    backend
        .args(["-c", "safe.directory=*", "http-backend"])
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", method)
        .env("PATH_INFO", path.replace("/notes.git", "/notes.git/.git"))
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", header("content-type").unwrap_or_default())
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("GIT_PROTOCOL", header("git-protocol").unwrap_or_default())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding").unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut backend = backend.spawn().unwrap();
    let mut stdin = backend.stdin.take().unwrap();
    let feeds = std::thread::spawn(move || stdin.write_all(&body).ok());
    let mut said = Vec::new();
    backend.stdout.take().unwrap().read_to_end(&mut said).unwrap();
    feeds.join().unwrap();
    backend.wait().unwrap();
    let status = match said.strip_prefix(b"Status: ") {
        Some(rest) => String::from_utf8_lossy(&rest[..3]).into_owned(),
        None => "200".to_owned(),
    };
    let mut stream = &stream;
    write!(stream, "HTTP/1.1 {status} x\r\nconnection: close\r\n").ok();
    stream.write_all(&said).ok();
}

#[test]
fn p8_a_bundle_comes_from_a_commit_of_a_git_repository() {
    isolated(|| {
        let host = Host::start();
        let cli = host.cli();
        let author = Author::trusted(cli);
        let git = Git::start(author.dir.path(), false);
        git.put(&author.bundle(cli, &plain("1.0.0")), "dist/notes-1.0.0.bundle.tar.zst");
        let first = git.commit();
        fs::remove_dir_all(git.work.join("dist")).unwrap();
        git.put(&author.bundle(cli, &plain("1.1.0")), "dist/new/notes-1.1.0.bundle.tar.zst");
        let second = git.commit();
        // A file; an older commit than the branch has by now.
        let source = url(&format!("#{first}:dist/notes-1.0.0.bundle.tar.zst"));
        let said = cli.run(["package", "install", "--insecure", &source]).ok().out();
        assert_eq!(said, "notes 1.0.0 is installed");
        // The folder that holds it.
        let source = url(&format!("#{second}:dist/new"));
        let said = cli.run(["package", "update", "--insecure", &source]).ok().out();
        assert_eq!(said, "notes 1.1.0 is installed");
        assert!(left(cli).is_empty(), "{:?}", left(cli));
    });
}

#[test]
fn p8_a_commit_is_named_whole_and_what_is_there_now_is_said() {
    isolated(|| {
        let host = Host::start();
        let cli = host.cli();
        let author = Author::trusted(cli);
        let git = Git::start(author.dir.path(), false);
        git.put(&author.bundle(cli, &plain("1.0.0")), "notes.bundle.tar.zst");
        let commit = git.commit();
        let said = cli.run(["package", "install", "--insecure", &url("")]).failed(125);
        assert!(said.contains("names no commit") && said.contains(&url(&format!("#{commit}"))), "{said}");
        for short in ["main", &commit[..12], &commit[..39], "HEAD"] {
            let said = cli.run(["package", "install", "--insecure", &url(&format!("#{short}"))]).failed(125);
            assert!(said.contains("no whole commit id"), "{short}: {said}");
        }
        let pinned = url(&format!("#{commit}"));
        let said = cli.run(["package", "install", &pinned]).failed(125);
        assert!(said.contains("plain HTTP") && said.contains("--insecure"), "{said}");
        for scheme in ["git+file:///tmp/x", "git+ssh://a/b", "git+ext::sh", "git+git://a/b"] {
            let said = cli.run(["package", "install", scheme]).failed(125);
            assert!(said.contains("only git+https://"), "{scheme}: {said}");
        }
        let nowhere = url(&format!("#{}", "0123456789".repeat(4)));
        let said = cli.run(["package", "install", "--insecure", &nowhere]).failed(125);
        assert!(said.contains("cannot fetch") && said.contains("0123456789"), "{said}");
        cli.run(["package", "install", "--insecure", &pinned]).ok();
        assert!(left(cli).is_empty(), "{:?}", left(cli));
    });
}

#[test]
fn p8_a_repository_cannot_lead_anywhere_else() {
    isolated(|| {
        let host = Host::start();
        let cli = host.cli();
        let author = Author::trusted(cli);
        let git = Git::start(author.dir.path(), false);
        let bundle = author.bundle(cli, &plain("1.0.0"));
        git.put(&bundle, "real/notes.bundle.tar.zst");
        git.put(&bundle, "two/a.bundle.tar.zst");
        git.put(&bundle, "two/b.bundle.tar.zst");
        let links = git.work.join("links");
        fs::create_dir(&links).unwrap();
        std::os::unix::fs::symlink("../real/notes.bundle.tar.zst", links.join("in.bundle.tar.zst")).unwrap();
        std::os::unix::fs::symlink(&bundle, links.join("out.bundle.tar.zst")).unwrap();
        std::os::unix::fs::symlink("real", git.work.join("folder")).unwrap();
        // What git would run, if anything were checked out.
        fs::write(git.work.join(".gitattributes"), "* filter=evil\n").unwrap();
        git.commit();
        git.run(&["update-index", "--add", "--cacheinfo", &format!("160000,{},sub", "12".repeat(20))]);
        git.run(&["commit", "-q", "-m", "a submodule"]);
        let commit = git.run(&["rev-parse", "HEAD"]);
        for (path, why) in [
            ("links/in.bundle.tar.zst", "is a link, which is not followed"),
            ("links/out.bundle.tar.zst", "is a link, which is not followed"),
            ("folder/notes.bundle.tar.zst", "folder is a link"),
            ("links", "no file there ends with .bundle.tar.zst"),
            ("sub/x", "sub is a submodule, which is not fetched"),
            ("real/notes.bundle.tar.zst/x", "notes.bundle.tar.zst is a file"),
            ("two", "more than one bundle: a.bundle.tar.zst, b.bundle.tar.zst"),
            ("none", "there is no none"),
            ("../real", "its path has . or .."),
        ] {
            let said =
                cli.run(["package", "install", "--insecure", &url(&format!("#{commit}:{path}"))]).failed(125);
            assert!(said.contains(why), "{path}: {said}");
        }
        cli.run(["package", "install", "--insecure", &url(&format!("#{commit}:real"))]).ok();
        // The signature decides, wherever it comes from.
        cli.run(["package", "remove", "notes"]).ok();
        cli.run(["package", "trust", "revoke", "author"]).ok();
        let said =
            cli.run(["package", "install", "--insecure", &url(&format!("#{commit}:real"))]).failed(125);
        assert!(said.contains("was revoked"), "{said}");
        assert!(left(cli).is_empty(), "{:?}", left(cli));
    });
}

#[test]
fn p8_a_fetch_that_is_called_off_or_killed_leaves_nothing() {
    isolated(|| {
        let host = Host::start();
        let cli = host.cli();
        let author = Author::trusted(cli);
        let git = Git::start(author.dir.path(), true);
        git.put(&author.bundle(cli, &plain("1.0.0")), "notes.bundle.tar.zst");
        let source = url(&format!("#{}", git.commit()));
        let start = |signal: &str| {
            let mut install = cli.command(["package", "install", "--insecure", &source]);
            let mut install = install.stderr(Stdio::null()).spawn().unwrap();
            let start = Instant::now();
            while left(cli).is_empty() {
                assert!(start.elapsed() < Duration::from_secs(10), "it fetches nothing");
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(Duration::from_millis(300));
            finish(
                {
                    let mut kill = Command::new("kill");
                    kill.args([signal, &install.id().to_string()]);
                    kill
                },
                b"",
            )
            .ok();
            install.wait().unwrap()
        };
        let ended = Instant::now();
        assert!(!start("-INT").success());
        assert!(ended.elapsed() < Duration::from_secs(10), "it went on for {:?}", ended.elapsed());
        assert!(left(cli).is_empty(), "{:?}", left(cli));
        start("-KILL");
        assert_eq!(left(cli).len(), 1);
        // The next who opens the store sweeps it.
        cli.run(["package", "install", "--insecure", &url("#none")]).failed(125);
        assert!(left(cli).is_empty(), "{:?}", left(cli));
    });
}
