//! What the broker has decided and does not do itself: the host brings who does, one for each package, who reaches nothing but
//! what is this package's.

use protocol::ErrorKind;
use protocol::broker::{DependencyInfo, LogLevel, ProcessStatusResult, TaskInfo};
use protocol::stats::StatsResult;

/// Why it was not done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failed {
    /// What sort of failure.
    pub kind: ErrorKind,
    /// Why, in a sentence.
    pub message: String,
}

/// The host, as far as one package goes.
pub trait Hands: Send + Sync {
    /// Starts a command in the package's sandbox, in the file system of one of its services (the only one, where none is
    /// named), and names it. Ends with the sandbox.
    ///
    /// # Errors
    /// When there is no such service, it does not run, too many commands run, or the command does not start.
    fn run(&self, command: &[String], service: Option<&str>) -> Result<String, Failed>;

    /// Whether a process that [`Hands::run`] has named runs, or how it ended.
    ///
    /// # Errors
    /// When there is none of this name, or it is another package's: that looks the same.
    fn status(&self, process: &str) -> Result<ProcessStatusResult, Failed>;

    /// Ends a process, with all that it started.
    ///
    /// # Errors
    /// As [`Hands::status`], and when it cannot be ended.
    fn stop(&self, process: &str) -> Result<(), Failed>;

    /// Starts a job of the manifest, in a subcontainer of its own in the package's sandbox.
    ///
    /// # Errors
    /// When there is none of this name, or it runs.
    fn run_task(&self, task: &str) -> Result<TaskInfo, Failed>;

    /// What became of the manifest's jobs, or of one.
    ///
    /// # Errors
    /// When there is none of this name.
    fn tasks(&self, task: Option<&str>) -> Result<Vec<TaskInfo>, Failed>;

    /// Which version of another package there is, and how it is. Only of those that the manifest depends on: the broker has
    /// asked the grant, and no other can be granted.
    ///
    /// # Errors
    /// When what is installed cannot be read. That it is not there is none.
    fn dependency(&self, package: &str) -> Result<DependencyInfo, Failed>;

    /// What the package's sandbox uses.
    ///
    /// # Errors
    /// When it does not run.
    fn usage(&self) -> Result<StatsResult, Failed>;

    /// Writes to the host's log. The message is one line that a terminal can show.
    fn log(&self, level: LogLevel, message: &str);

    /// Tells the operator. The texts are lines that a terminal can show.
    fn notify(&self, channel: &str, title: &str, message: &str);
}
