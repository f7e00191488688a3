//! Signals by name and number.

use std::fmt;
use std::str::FromStr;

/// A signal: 1 to 64. x86-64 and arm64 number them alike.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Signal(u8);

/// The first real-time signal that a program can use: glibc and musl keep 32 and 33 for themselves.
const RTMIN: u8 = 34;
const RTMAX: u8 = 64;

macro_rules! signals {
    ($($name:ident $number:literal $text:literal $doc:literal;)*) => {
        impl Signal {
            $(#[doc = $doc] pub const $name: Self = Self($number);)*
        }
        const NAMES: &[(u8, &str)] = &[$(($number, $text)),*];
    };
}

signals! {
    HUP 1 "SIGHUP" "The terminal hung up.";
    INT 2 "SIGINT" "Ctrl-C.";
    QUIT 3 "SIGQUIT" "Ctrl-\\.";
    ILL 4 "SIGILL" "Illegal instruction.";
    TRAP 5 "SIGTRAP" "Breakpoint.";
    ABRT 6 "SIGABRT" "`abort(3)`.";
    BUS 7 "SIGBUS" "Bad memory access.";
    FPE 8 "SIGFPE" "Arithmetic error.";
    KILL 9 "SIGKILL" "End at once.";
    USR1 10 "SIGUSR1" "The program's own.";
    SEGV 11 "SIGSEGV" "Invalid memory reference.";
    USR2 12 "SIGUSR2" "The program's own.";
    PIPE 13 "SIGPIPE" "Nobody reads the pipe.";
    ALRM 14 "SIGALRM" "`alarm(2)`.";
    TERM 15 "SIGTERM" "End, please.";
    STKFLT 16 "SIGSTKFLT" "Unused.";
    CHLD 17 "SIGCHLD" "A child changed state.";
    CONT 18 "SIGCONT" "Go on.";
    STOP 19 "SIGSTOP" "Stop.";
    TSTP 20 "SIGTSTP" "Ctrl-Z.";
    TTIN 21 "SIGTTIN" "A background process reads its terminal.";
    TTOU 22 "SIGTTOU" "A background process writes its terminal.";
    URG 23 "SIGURG" "Urgent data on a socket.";
    XCPU 24 "SIGXCPU" "Too much processor time.";
    XFSZ 25 "SIGXFSZ" "Too large a file.";
    VTALRM 26 "SIGVTALRM" "Virtual timer.";
    PROF 27 "SIGPROF" "Profiling timer.";
    WINCH 28 "SIGWINCH" "The terminal's size changed.";
    IO 29 "SIGIO" "Input or output possible.";
    PWR 30 "SIGPWR" "Power failure.";
    SYS 31 "SIGSYS" "Bad system call.";
}

/// Other names in use for the same numbers.
const ALIASES: &[(u8, &str)] = &[(6, "SIGIOT"), (17, "SIGCLD"), (29, "SIGPOLL")];

impl Signal {
    /// The signal with this number.
    #[must_use]
    pub fn from_raw(number: i32) -> Option<Self> {
        u8::try_from(number).ok().filter(|number| (1..=RTMAX).contains(number)).map(Self)
    }

    /// Its number.
    #[must_use]
    pub fn as_raw(self) -> i32 {
        i32::from(self.0)
    }

    /// What is passed on to a process that runs on somebody's behalf: all that another process can mean by
    /// sending them. Left out are SIGKILL and SIGSTOP (cannot be caught), SIGCHLD and SIGPIPE (about ourselves),
    /// those that report a fault of ours, those that a terminal sends for job control, and 32 and 33, which libc
    /// uses.
    pub fn forwardable() -> impl Iterator<Item = Self> {
        const OWN: &[Signal] = &[
            Signal::ILL,
            Signal::TRAP,
            Signal::ABRT,
            Signal::BUS,
            Signal::FPE,
            Signal::KILL,
            Signal::SEGV,
            Signal::PIPE,
            Signal::CHLD,
            Signal::STOP,
            Signal::TSTP,
            Signal::TTIN,
            Signal::TTOU,
            Signal::SYS,
        ];
        (1..=31).chain(RTMIN..=RTMAX).map(Self).filter(|signal| !OWN.contains(signal))
    }
}

/// Whether one of these was sent to this thread or process and waits, blocked.
///
/// `sigpending(2)`, POSIX.
#[must_use]
pub fn is_pending(signals: &[Signal]) -> bool {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: `set` is a place for a signal set, which the call fills in; it fails for a bad address only.
    let set = unsafe {
        libc::sigpending(set.as_mut_ptr());
        set.assume_init()
    };
    // SAFETY: the set is initialized, the number a signal's.
    signals.iter().any(|signal| unsafe { libc::sigismember(&raw const set, signal.as_raw()) } == 1)
}

/// Does this with no signal blocked in this thread, and blocks again what was: programs inherit the mask of whoever starts them,
/// and one that was started with SIGTERM blocked does not end by it. What came meanwhile has its usual effect.
///
/// `pthread_sigmask(3)`, POSIX.
pub fn unblocked<T>(work: impl FnOnce() -> T) -> T {
    let mut none = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initializes the first set, the call reads it and fills in the second.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), before.as_mut_ptr());
    }
    let result = work();
    // SAFETY: the set was filled in above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    result
}

/// Gives a signal its default meaning in this process, whatever the program that started it has left.
pub fn default_disposition(signal: Signal) {
    // SAFETY: no handler, so nothing of ours runs in one. It fails for SIGKILL and SIGSTOP, which have no other.
    let _before = unsafe { libc::signal(signal.as_raw(), libc::SIG_DFL) };
}

impl fmt::Display for Signal {
    /// `SIGTERM`, `SIGRTMIN+3`; the bare number for 32 and 33.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(number, _)| *number == self.0) {
            Some((_, name)) => f.write_str(name),
            None if self.0 == RTMIN => f.write_str("SIGRTMIN"),
            None if self.0 > RTMIN => write!(f, "SIGRTMIN+{}", self.0 - RTMIN),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// No such signal.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("unknown signal {0:?}")]
pub struct UnknownSignal(pub String);

impl FromStr for Signal {
    type Err = UnknownSignal;

    /// `SIGTERM`, `TERM`, `term`, `15`, `SIGRTMIN+3`, `RTMAX-1`.
    fn from_str(text: &str) -> Result<Self, UnknownSignal> {
        let unknown = || UnknownSignal(text.to_owned());
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().ok().and_then(Self::from_raw).ok_or_else(unknown);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let named = |(_, known): &&(u8, &str)| known.strip_prefix("SIG") == Some(name);
        if let Some((number, _)) = NAMES.iter().chain(ALIASES).find(named) {
            return Ok(Self(*number));
        }
        let offset = |rest: &str, sign: char| match rest.strip_prefix(sign) {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse::<u8>().ok(),
            None if rest.is_empty() => Some(0),
            _ => None,
        };
        let number = if let Some(rest) = name.strip_prefix("RTMIN") {
            offset(rest, '+').and_then(|offset| RTMIN.checked_add(offset))
        } else if let Some(rest) = name.strip_prefix("RTMAX") {
            offset(rest, '-').and_then(|offset| RTMAX.checked_sub(offset))
        } else {
            None
        };
        number.filter(|number| (RTMIN..=RTMAX).contains(number)).map(Self).ok_or_else(unknown)
    }
}
