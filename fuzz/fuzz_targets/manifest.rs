//! Any text as a manifest: it is refused, or it reads back as it was written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packages::Manifest;
use packages::manifest::Syntax;

fuzz_target!(|data: &[u8]| {
    for syntax in [Syntax::Json, Syntax::Yaml] {
        match Manifest::read(data, syntax) {
            Ok(manifest) => {
                let again = Manifest::read(manifest.to_json().as_bytes(), Syntax::Json);
                assert_eq!(again.as_ref(), Ok(&manifest));
            }
            Err(fault) => assert!(!fault.to_string().is_empty()),
        }
    }
});
