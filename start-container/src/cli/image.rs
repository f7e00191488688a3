//! `start-container image …`

use std::path::PathBuf;

use clap::Subcommand;
use images::Cancel;
use protocol::image::ImageInfo;

use super::{Context, output};
use crate::error::{Failure, Result};

mod progress;

pub(super) use progress::Bars;

#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(super) enum Image {
    /// Import an OCI layout, a docker-archive, a rootfs tar or a rootfs directory
    ///
    /// Which one it is, is read from the bytes. Tars may be plain, gzip or zstd.
    Import {
        /// File or directory
        path: PathBuf,
        /// Name to give it [default: the one in the archive, else the file's]
        #[arg(long)]
        name: Option<String>,
    },
    /// Pull an image from a registry
    Pull {
        /// `[registry/]repository[:tag][@digest]`
        reference: String,
        /// Name to give it [default: the reference]
        #[arg(long)]
        name: Option<String>,
        /// os/architecture[/variant] [default: this machine's]
        #[arg(long)]
        platform: Option<String>,
        /// Speak plain HTTP to the registry
        #[arg(long)]
        insecure: bool,
    },
    /// List images
    Ls,
    /// Show one image, whole
    Inspect {
        /// Name or digest
        image: String,
    },
    /// Remove an image; its layers stay until `gc` unless nothing else uses them
    Rm {
        /// Name or digest
        image: String,
    },
    /// Remove layers that no image uses, and what killed imports left behind
    Gc,
}

impl Image {
    pub(super) fn run(self, context: &Context) -> Result<()> {
        let machine = context.machine()?;
        let store = machine.store()?;
        match self {
            Self::Import { path, name } => {
                let bars = Bars::new(!context.json);
                let image = store.import(&path, name.as_deref(), &bars, &cancel_on_ctrl_c()?);
                bars.clear();
                show_new(context, &image.map_err(Failure::from)?)
            }
            Self::Pull { reference, name, platform, insecure } => {
                let bars = Bars::new(!context.json);
                let what = images::Pull {
                    reference: &reference,
                    name: name.as_deref(),
                    platform: platform.as_deref(),
                    insecure,
                    credentials: images::Credentials::Configured,
                };
                let image = store.pull(&what, &bars, &cancel_on_ctrl_c()?);
                bars.clear();
                show_new(context, &image.map_err(Failure::from)?)
            }
            Self::Ls => {
                let list = store.list().map_err(Failure::from)?;
                if context.json {
                    return output::json(&list);
                }
                let rows: Vec<Vec<String>> = list.iter().map(row).collect();
                output::table(&["NAME", "DIGEST", "PLATFORM", "LAYERS", "SIZE"], &rows);
                Ok(())
            }
            Self::Inspect { image } => {
                let image = store.get(&image).map_err(Failure::from)?;
                if context.json {
                    return output::json(&image);
                }
                let text = serde_json::to_string_pretty(&image).unwrap_or_default();
                output::line(&text);
                Ok(())
            }
            Self::Rm { image } => removed(context, &store.remove(&image).map_err(Failure::from)?),
            Self::Gc => {
                let bars = Bars::new(!context.json);
                let freed = store.gc(&bars);
                bars.clear();
                removed(context, &freed.map_err(Failure::from)?)
            }
        }
    }
}

/// The first Ctrl-C stops the work and cleans up; a second one ends the program.
pub(super) fn cancel_on_ctrl_c() -> Result<Cancel> {
    use linux::signal::Signal;
    let cancel = Cancel::new();
    let switch = cancel.clone();
    let signals = linux::signalfd::SignalFd::new(&[Signal::INT.as_raw(), Signal::TERM.as_raw()])
        .map_err(|errno| Failure::kernel("block signals", "", errno))?;
    std::thread::spawn(move || {
        for attempt in 0.. {
            let mut fds = [rustix::event::PollFd::new(&signals, rustix::event::PollFlags::IN)];
            if rustix::event::poll(&mut fds, None).is_err() || !matches!(signals.next(), Ok(Some(_))) {
                continue;
            }
            switch.cancel();
            if attempt > 0 {
                std::process::exit(130);
            }
        }
    });
    Ok(cancel)
}

fn show_new(context: &Context, image: &ImageInfo) -> Result<()> {
    if context.json {
        return output::json(image);
    }
    output::line(&image.digest);
    Ok(())
}

fn removed(context: &Context, removed: &protocol::image::RemovedResult) -> Result<()> {
    if context.json {
        return output::json(removed);
    }
    say_removed(removed);
    Ok(())
}

pub(super) fn say_removed(removed: &protocol::image::RemovedResult) {
    for digest in &removed.removed {
        output::line(digest);
    }
    output::error(&format!("freed {}", output::bytes(removed.freed)));
}

fn row(image: &ImageInfo) -> Vec<String> {
    vec![
        image.names.join(", "),
        image.digest.chars().take(19).collect(),
        format!("{}/{}", image.os, image.architecture),
        image.layers.len().to_string(),
        output::bytes(image.size),
    ]
}
