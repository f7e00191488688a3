//! Times what this room is asked for most, for `cargo xtask bench`.
//!
//! ```text
//! import_bench import DATA_DIR FILE [RUNS]    import, remove, import, …: milliseconds each
//! import_bench again  DATA_DIR FILE [RUNS]    import what is there already
//! import_bench cycle  DATA_DIR IMAGE [RUNS]   create and destroy a throw-away rootfs: microseconds of each
//! ```
#![allow(clippy::print_stdout, reason = "a program for people and scripts")]

use std::path::Path;
use std::time::Instant;

use images::rootfs::Options;
use images::{Cancel, Rootfs, Silent, Store};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, what, dir, subject, rest @ ..] = args.as_slice() else {
        return Err("import_bench import|again|cycle DATA_DIR FILE|IMAGE [RUNS]".into());
    };
    let runs: usize = rest.first().map_or(Ok(1), |runs| runs.parse())?;
    let store = Store::open(Path::new(dir))?;
    let import = || store.import(Path::new(subject), Some("bench"), &Silent, &Cancel::new());
    for _ in 0..runs {
        let started = Instant::now();
        match what.as_str() {
            "import" => {
                let image = import()?;
                println!("{:.1}", started.elapsed().as_secs_f64() * 1e3);
                store.remove(&image.digest)?;
            }
            "again" => {
                import()?;
                println!("{:.1}", started.elapsed().as_secs_f64() * 1e3);
            }
            "cycle" => {
                let rootfs =
                    Rootfs::create(&store, subject, Options { throwaway: true, ..Options::default() })?;
                let created = started.elapsed();
                Rootfs::destroy(Path::new(dir), rootfs.guid())?;
                println!("{} {}", created.as_micros(), (started.elapsed() - created).as_micros());
            }
            other => return Err(format!("{other}: no such measurement").into()),
        }
    }
    Ok(())
}
