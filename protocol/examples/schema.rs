//! Writes the generated files; the argument is the root of the repository.
fn main() -> std::io::Result<()> {
    let root = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    for (path, content) in protocol::schema::files() {
        let path = std::path::Path::new(&root).join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, content)?;
    }
    Ok(())
}
