//! `files.stream`: a connection that carries the bytes of one file, in chunks: no more than one is in memory.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use broker::Stream;
use jsonrpsee_types::Id;
use protocol::ErrorKind;
use protocol::broker::FilesStreamResult;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::{CHUNK, Inside, PATIENCE, STILL, over, write};

/// Carries the bytes of a file. `buffered` came with the request.
pub(super) async fn carry(
    door: &Inside,
    id: Id<'static>,
    params: &str,
    mut reader: BufReader<OwnedReadHalf>,
    mut writer: OwnedWriteHalf,
) {
    let (mut closing, mut quarantine) = (door.closing.clone(), door.caller.quarantine());
    let broken_off = async {
        let why = over(&mut closing, &mut quarantine).await;
        Err::<(), String>(why.unwrap_or_else(|| "its package is being disabled".to_owned()))
    };
    let caller = &door.caller;
    let mut out = Vec::new();
    let told = |size: u64| serde_json::to_string(&FilesStreamResult { size }).unwrap_or_default();
    match caller.stream(params).await {
        Err(refused) => write(&mut out, &id, "files.stream", Err(refused)),
        Ok(Stream::Read(file, size)) => {
            write(&mut out, &id, "files.stream", Ok(told(size)));
            let send = async {
                writer.write_all(&out).await.map_err(|error| error.to_string())?;
                send_file(file, size, &mut writer).await
            };
            let sent = tokio::select! {
                sent = send => sent,
                broken_off = broken_off => broken_off,
            };
            // The connection is over, whatever comes of this.
            _ = caller.streamed(params, sent).await;
            return;
        }
        Ok(Stream::Write(new, size)) => {
            let received = tokio::select! {
                received = receive_file(new.file(), size, &mut reader) => received,
                broken_off = broken_off => broken_off,
            };
            let received = match received {
                Ok(()) => wait(move || new.commit().map_err(|error| error.to_string())).await,
                Err(why) => Err(why),
            };
            let failed = received.clone().err();
            let result = match (caller.streamed(params, received).await, failed) {
                (Err(error), _) => Err(error),
                (Ok(()), Some(message)) => Err(broker::Error::Failed { kind: ErrorKind::Kernel, message }),
                (Ok(()), None) => Ok(told(size)),
            };
            write(&mut out, &id, "files.stream", result);
        }
    }
    // Who asked may have gone, or may still be sending: who closes on that takes the answer back with it.
    let last = async {
        writer.write_all(&out).await?;
        writer.shutdown().await?;
        tokio::io::copy(&mut reader, &mut tokio::io::sink()).await
    };
    _ = tokio::time::timeout(PATIENCE, last).await;
}

async fn send_file(file: OwnedFd, size: u64, writer: &mut OwnedWriteHalf) -> std::result::Result<(), String> {
    let file = Arc::new(file);
    let mut sent = 0;
    while sent < size {
        let (own, want) = (Arc::clone(&file), CHUNK.min(usize::try_from(size - sent).unwrap_or(CHUNK)));
        let chunk = wait(move || {
            let mut chunk = vec![0; want];
            let read = rustix::io::pread(&own, &mut chunk[..], sent).map_err(|errno| errno.to_string())?;
            chunk.truncate(read);
            Ok(chunk)
        })
        .await?;
        if chunk.is_empty() {
            return Err(format!("it has become shorter than {size} bytes"));
        }
        match tokio::time::timeout(STILL, writer.write_all(&chunk)).await {
            Ok(written) => written.map_err(|error| error.to_string())?,
            Err(_) => return Err("nobody reads it".to_owned()),
        }
        sent += chunk.len() as u64;
    }
    Ok(())
}

async fn receive_file(
    file: &OwnedFd,
    size: u64,
    reader: &mut BufReader<OwnedReadHalf>,
) -> std::result::Result<(), String> {
    let file = Arc::new(file.try_clone().map_err(|error| error.to_string())?);
    let mut left = size;
    while left > 0 {
        let mut chunk = vec![0; CHUNK.min(usize::try_from(left).unwrap_or(CHUNK))];
        let read = match tokio::time::timeout(STILL, reader.read(&mut chunk)).await {
            Ok(read) => read.map_err(|error| error.to_string())?,
            Err(_) => return Err("no more of it comes".to_owned()),
        };
        if read == 0 {
            return Err(format!("the connection ended {left} bytes before the end of the file"));
        }
        chunk.truncate(read);
        left -= read as u64;
        let own = Arc::clone(&file);
        wait(move || linux::tree::write_all(&*own, &chunk).map_err(|errno| errno.to_string())).await?;
    }
    Ok(())
}

/// Does what waits for the disk where it may.
async fn wait<T: Send + 'static>(
    work: impl FnOnce() -> std::result::Result<T, String> + Send + 'static,
) -> std::result::Result<T, String> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(error.to_string()))
}
