//! The generated forms of this crate: TypeScript declarations and a JSON Schema.
