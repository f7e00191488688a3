//! To come.
use crate::test::Context;
use crate::test::counts::Counts;
use anyhow::Result;
pub(crate) fn run() -> Result<()> {
    anyhow::bail!("to come")
}
pub(crate) fn test(_: &Context) -> Result<Counts> {
    run()?;
    Ok(Counts::default())
}
pub(crate) fn skipped(_: &Context) -> Result<Counts> {
    Ok(Counts::skip(
        "guest",
        "takes minutes under emulation: `cargo xtask guest`, or `cargo xtask test --guest`",
    ))
}
