/**
 * What packages for StartOS may ask of their system, and this host does not have.
 */

/** Something that only StartOS itself has: onion addresses, names in the local network, certificates, mail of the system. */
export class NotOnThisHostError extends Error {
  override readonly name = "NotOnThisHostError";
  /** What was asked for: `getSystemSmtp`. */
  readonly what: string;

  constructor(what: string, why: string) {
    super(`${what}: ${why}`);
    this.what = what;
  }
}

/** A function of that kind. */
export function notHere(what: string, why: string): () => never {
  return () => {
    throw new NotOnThisHostError(what, why);
  };
}
