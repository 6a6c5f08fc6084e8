//! A child process that cannot outlive its test: killed on drop, and by the kernel if the test process itself dies.
//!
//! Its standard output and error go to files, so that no full pipe stops it and a failing test can show them.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The binary under test.
pub const RAPPORT: &str = env!("CARGO_BIN_EXE_rapport");

pub struct Process {
    child: Child,
    name: String,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// What a finished process left.
pub struct Finished {
    /// `None` where a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Process {
    /// Starts `command`; its output goes to `<dir>/<name>.out` and `<dir>/<name>.err`.
    ///
    /// The kernel kills it when the *thread* that called this ends.
    pub fn spawn(name: &str, mut command: Command, dir: &Path) -> Process {
        let (stdout, stderr) = (dir.join(format!("{name}.out")), dir.join(format!("{name}.err")));
        command.stdin(std::process::Stdio::null());
        command.stdout(File::create(&stdout).expect("a file for standard output"));
        command.stderr(File::create(&stderr).expect("a file for standard error"));
        // SAFETY: prctl is async-signal-safe and touches only the child.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let child = command.spawn().unwrap_or_else(|e| panic!("cannot start {name}: {command:?}: {e}"));
        Process { child, name: name.into(), stdout, stderr }
    }

    /// Sends a signal, such as `libc::SIGTERM`.
    pub fn signal(&self, signal: i32) {
        // SAFETY: the child is not reaped before `wait` or drop, so the id is still its own.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// kill −9, and reaps it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Has it ended by itself?
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait for a child")
    }

    /// Waits for its end; fails the test, with what it said, after `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Finished {
        let until = Instant::now() + timeout;
        loop {
            if let Some(status) = self.ended() {
                return Finished { code: status.code(), stdout: self.stdout(), stderr: self.stderr() };
            }
            assert!(Instant::now() < until, "{} still runs after {timeout:?}; it said:\n{}", self.name, self.stderr());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stdout).unwrap_or_default()).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let said = self.stderr();
            let tail = &said[said.floor_char_boundary(said.len().saturating_sub(4000))..];
            eprintln!("{} said last:\n{tail}", self.name);
        }
    }
}

/// Runs `rapport` with these arguments to its end.
pub fn rapport<I, S>(dir: &Path, arguments: I, timeout: Duration) -> Finished
where
    I: IntoIterator<Item = S>,
    S: AsRef<std::ffi::OsStr>,
{
    let mut command = Command::new(RAPPORT);
    command.args(arguments).env("RUST_BACKTRACE", "1");
    Process::spawn("rapport", command, dir).wait(timeout)
}

/// Asks again until `done` gives something; fails the test after `timeout`.
pub fn eventually<T>(what: &str, timeout: Duration, mut done: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + timeout;
    loop {
        if let Some(found) = done() {
            return found;
        }
        assert!(Instant::now() < until, "not within {timeout:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A TCP port of the loopback address that nothing uses now. Below those that the kernel gives to outgoing connections: one of them could take
/// it before it is bound, or while a broker that had it is down.
pub fn free_port() -> u16 {
    const PORTS: std::ops::Range<u32> = 18_000..32_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(61);
    let ports = std::iter::repeat_with(|| {
        let n = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        (PORTS.start + n % (PORTS.end - PORTS.start)) as u16
    });
    ports.take(PORTS.len()).find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

/// Where `make deps` put what tests download.
pub fn cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"))).expect("HOME is set");
    base.join("rapport")
}

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
