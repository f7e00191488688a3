//! Modules of functions: where they may come from, and what they are compiled to.
//!
//! Names are paths of the bundle, `entries/pages/hello.js`: so they stand in errors and stacks. An import is relative, and
//! ends beneath `entries/`; each file is opened beneath that directory, without links, so that the kernel says the same.

use std::cell::RefCell;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::OnceLock;

use rquickjs::loader::{ImportAttributes, Loader, Resolver};
use rquickjs::module::Declared;
use rquickjs::{Ctx, Error, Module, Result, WriteOptions};
use rustix::fs::{Mode, OFlags, ResolveFlags};

/// What all names begin with.
pub(crate) const ROOT: &str = "entries";
/// The name of what is in an isolate before the package's code is.
pub(crate) const PRELUDE: &str = "start-container";
const PRELUDE_TEXT: &str = include_str!("prelude.js");
/// Bytes of one module.
const LONGEST: u64 = 1 << 20;

/// Modules by name, as they were compiled just now.
type Code = Vec<(String, Vec<u8>)>;

/// The same, for isolates. They are kept until the process ends: nothing else may hold bytecode that isolates read.
pub(crate) type Compiled = &'static [(&'static str, &'static [u8])];

/// Keeps what was compiled.
pub(crate) fn keep(modules: Code) -> Compiled {
    let kept = modules
        .into_iter()
        .map(|(name, code)| -> (&'static str, &'static [u8]) { (name.leak(), code.leak()) });
    kept.collect::<Vec<_>>().leak()
}

/// Says which module an import means.
pub(crate) struct Imports;

impl Resolver for Imports {
    fn resolve<'js>(
        &mut self,
        _: &Ctx<'js>,
        base: &str,
        name: &str,
        _: Option<ImportAttributes<'js>>,
    ) -> Result<String> {
        // Of ours, not of a module's: the first of a package's is by its path in the bundle.
        if base.is_empty() {
            return Ok(name.to_owned());
        }
        resolve(base, name).map_err(|why| Error::new_resolving_message(base, name, why))
    }
}

/// The path of the bundle that `name` means in the module `base`.
fn resolve(base: &str, name: &str) -> std::result::Result<String, &'static str> {
    if !name.starts_with("./") && !name.starts_with("../") {
        return Err("an import begins with ./ or ../: what comes from elsewhere is bundled into the file");
    }
    let mut path: Vec<&str> = base.split('/').collect();
    path.pop();
    for part in name.split('/') {
        match part {
            "." => {}
            ".." => {
                path.pop();
            }
            part => path.push(part),
        }
        if path.first() != Some(&ROOT) {
            return Err("it leads out of entries/");
        }
    }
    if path.len() < 2 || path.iter().any(|part| part.is_empty()) {
        Err("it is no file")
    } else {
        Ok(path.join("/"))
    }
}

/// Modules from their text: those that are compiled for isolates to come, and those that only an `import()` names.
#[derive(Clone)]
pub(crate) struct Texts {
    dir: Rc<OwnedFd>,
    /// Where they are kept.
    compiled: Option<Rc<RefCell<Code>>>,
}

impl Texts {
    pub(crate) fn new(dir: OwnedFd) -> Self {
        Self { dir: Rc::new(dir), compiled: None }
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// The same, but what is loaded is kept.
    pub(crate) fn keeping(&self) -> Self {
        Self { dir: Rc::clone(&self.dir), compiled: Some(Rc::default()) }
    }

    /// What was kept so far.
    pub(crate) fn take(&self) -> Code {
        self.compiled.as_ref().map(|compiled| compiled.take()).unwrap_or_default()
    }
}

/// A file of the bundle, by its path there.
pub(crate) fn read(dir: &OwnedFd, path: &str, most: u64) -> std::result::Result<Vec<u8>, String> {
    let inside = path.strip_prefix("entries/").ok_or("it is not beneath entries/")?;
    let (flags, mode) = (OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK, Mode::empty());
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let file = rustix::fs::openat2(dir, inside, flags, mode, beneath).map_err(|errno| match errno {
        rustix::io::Errno::NOENT => "there is no such file in the bundle".to_owned(),
        errno => errno.to_string(),
    })?;
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(most + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > most { Err(format!("it is longer than {most} bytes")) } else { Ok(bytes) }
}

impl Loader for Texts {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _: Option<ImportAttributes<'js>>,
    ) -> Result<Module<'js, Declared>> {
        if name.ends_with(".ts") {
            let why = "functions are JavaScript: TypeScript is bundled into it by its author";
            return Err(Error::new_loading_message(name, why));
        }
        let text = read(&self.dir, name, LONGEST).map_err(|why| Error::new_loading_message(name, why))?;
        let module = Module::declare(ctx.clone(), name, text)?;
        if let Some(compiled) = &self.compiled {
            let code = module.write(WriteOptions { strip_source: true, ..WriteOptions::default() })?;
            compiled.borrow_mut().push((name.to_owned(), code));
        }
        Ok(module)
    }
}

/// The prelude, compiled with the first isolate.
pub(crate) fn prelude(ctx: &Ctx<'_>) -> Result<Compiled> {
    static COMPILED: OnceLock<Compiled> = OnceLock::new();
    if let Some(compiled) = COMPILED.get() {
        return Ok(compiled);
    }
    let module = Module::declare(ctx.clone(), PRELUDE, PRELUDE_TEXT)?;
    let code = module.write(WriteOptions { strip_source: true, ..WriteOptions::default() })?;
    Ok(COMPILED.get_or_init(|| keep(vec![(PRELUDE.to_owned(), code)])))
}

#[cfg(test)]
mod tests {
    use super::resolve;

    #[test]
    fn j4_an_import_is_relative_and_ends_beneath_the_entries() {
        let found = |name| resolve("entries/pages/a.js", name);
        assert_eq!(found("./b.js").as_deref(), Ok("entries/pages/b.js"));
        assert_eq!(found("../c.js").as_deref(), Ok("entries/c.js"));
        assert_eq!(found("./d/../e/./f.js").as_deref(), Ok("entries/pages/e/f.js"));
        for out in
            ["../../g.js", "./../../entries/a.js", "../../../../etc/passwd", "./../../x/../entries/a.js"]
        {
            assert_eq!(found(out), Err("it leads out of entries/"), "{out}");
        }
        for bare in
            ["lodash", "/etc/passwd", "file:///etc/passwd", "https://a.example/b.js", "start-container", ""]
        {
            assert!(found(bare).unwrap_err().starts_with("an import begins with"), "{bare}");
        }
        for none in ["./", "./a//b.js", ".././"] {
            assert_eq!(found(none), Err("it is no file"), "{none}");
        }
    }
}
