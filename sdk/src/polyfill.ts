/**
 * `Symbol.dispose` and `Symbol.asyncDispose` where the runtime has none (Node before 20.5 has neither in full).
 * Every module that declares such a method imports this one first.
 */
for (const name of ["dispose", "asyncDispose"] as const) {
  if (Symbol[name] === undefined) {
    Object.defineProperty(Symbol, name, { value: Symbol.for(`Symbol.${name}`) });
  }
}
