//! To come.
pub(crate) fn run() -> anyhow::Result<()> {
    anyhow::bail!("to come")
}
