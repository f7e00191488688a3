/**
 * Versions of packages, and ranges of them: `1.2.3`, with the package's own revision behind it as `1.2.3:4` or, as the host has
 * it in its manifests, `1.2.3+4`. Pure.
 */

const VERSION = /^(\d+(?:\.\d+)*)(?:-([0-9A-Za-z.-]+))?(?:[:+](\d+(?:\.\d+)*))?$/;

/** A version: that of what is packaged, and the package's own revision of it. */
export class ExtendedVersion {
  /** Of what is packaged: `[1, 2, 3]`. */
  readonly upstream: readonly number[];
  /** Of what is packaged: `beta.1`, or null. */
  readonly prerelease: string | null;
  /** The package's own: `[0]` where none is written. */
  readonly downstream: readonly number[];

  private constructor(upstream: readonly number[], prerelease: string | null, downstream: readonly number[]) {
    this.upstream = upstream;
    this.prerelease = prerelease;
    this.downstream = downstream;
  }

  /** Reads one. @throws RangeError when it is none; flavors (`#name:`) are none */
  static parse(text: string): ExtendedVersion {
    const found = VERSION.exec(text);
    if (found === null) throw new RangeError(`no version: ${JSON.stringify(text)}`);
    const [, upstream = "", prerelease, downstream] = found;
    return new ExtendedVersion(numbers(upstream), prerelease ?? null, numbers(downstream ?? "0"));
  }

  /** As `@start9labs/start-sdk` writes it: `1.2.3:4`. */
  toString(): string {
    return `${this.#upstream()}:${this.downstream.join(".")}`;
  }

  /** As the host's manifests have it, `1.2.3+4`, without what is 0. @throws RangeError unless it has three numbers */
  toManifest(): string {
    if (this.upstream.length !== 3)
      throw new RangeError(`a manifest's version has three numbers, not ${this.#upstream()}`);
    const own = this.downstream.join(".");
    return `${this.#upstream()}${own === "0" ? "" : `+${own}`}`;
  }

  #upstream(): string {
    return `${this.upstream.join(".")}${this.prerelease === null ? "" : `-${this.prerelease}`}`;
  }

  /** Below 0 when this is the older one, above 0 when it is the newer one. */
  compareForSort(other: ExtendedVersion): -1 | 0 | 1 {
    const order =
      compare(this.upstream, other.upstream) ||
      comparePrerelease(this.prerelease, other.prerelease) ||
      compare(this.downstream, other.downstream);
    return Math.sign(order) as -1 | 0 | 1;
  }

  equals(other: ExtendedVersion): boolean {
    return this.compareForSort(other) === 0;
  }

  lessThan(other: ExtendedVersion): boolean {
    return this.compareForSort(other) < 0;
  }

  greaterThan(other: ExtendedVersion): boolean {
    return this.compareForSort(other) > 0;
  }

  satisfies(range: VersionRange): boolean {
    return range.satisfiedBy(this);
  }
}

function numbers(text: string): number[] {
  return text.split(".").map(Number);
}

/** Numbers that are missing are 0. */
function compare(a: readonly number[], b: readonly number[]): number {
  for (let at = 0; at < Math.max(a.length, b.length); at++) {
    const difference = (a[at] ?? 0) - (b[at] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** As semantic versions have it: one with a prerelease is older than the one without. */
function comparePrerelease(a: string | null, b: string | null): number {
  if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1;
  const [left, right] = [a.split("."), b.split(".")];
  for (let at = 0; at < Math.max(left.length, right.length); at++) {
    const [x, y] = [left[at], right[at]];
    if (x === undefined || y === undefined) return x === undefined ? -1 : 1;
    const [xIsNumber, yIsNumber] = [/^\d+$/.test(x), /^\d+$/.test(y)];
    if (xIsNumber && yIsNumber && Number(x) !== Number(y)) return Number(x) - Number(y);
    if (xIsNumber !== yIsNumber) return xIsNumber ? -1 : 1;
    if (x !== y && !(xIsNumber && yIsNumber)) return x < y ? -1 : 1;
  }
  return 0;
}

type Test = (version: ExtendedVersion) => boolean;

const TOKEN = /\s*(\|\||&&|,|\(|\)|!(?!=)|\*|(?:\^|~|!=|>=|<=|>|<|=)?\s*\d[0-9A-Za-z.:+-]*)\s*/y;

/** A range: `^1.2`, `>=1.2:1 <2 || =3`. A version alone means `^`. */
export class VersionRange {
  readonly #text: string;
  readonly #test: Test;

  private constructor(text: string, test: Test) {
    this.#text = text;
    this.#test = test;
  }

  /** Reads one: `= != > >= < <= ^ ~ *`, joined by `&&`, `,`, a space or `||`, with `!` and parentheses. @throws RangeError */
  static parse(text: string): VersionRange {
    const tokens: string[] = [];
    TOKEN.lastIndex = 0;
    while (TOKEN.lastIndex < text.length) {
      const found = TOKEN.exec(text);
      if (found?.[1] === undefined) throw new RangeError(`no range of versions: ${JSON.stringify(text)}`);
      tokens.push(found[1]);
    }
    const reader = new Reader(tokens, text);
    return new VersionRange(text, reader.whole());
  }

  satisfiedBy(version: ExtendedVersion): boolean {
    return this.#test(version);
  }

  toString(): string {
    return this.#text;
  }
}

/** Descends through a range: alternatives, then what all must hold, then one. */
class Reader {
  readonly #tokens: readonly string[];
  readonly #text: string;
  #at = 0;

  constructor(tokens: readonly string[], text: string) {
    this.#tokens = tokens;
    this.#text = text;
  }

  whole(): Test {
    const test = this.#any();
    if (this.#at < this.#tokens.length) throw this.#wrong();
    return test;
  }

  #any(): Test {
    const tests = [this.#all()];
    while (this.#take("||")) tests.push(this.#all());
    return (version) => tests.some((test) => test(version));
  }

  #all(): Test {
    const tests = [this.#one()];
    for (;;) {
      const joined = this.#take("&&") || this.#take(",");
      const next = this.#tokens[this.#at];
      if (!joined && (next === undefined || next === ")" || next === "||")) break;
      tests.push(this.#one());
    }
    return (version) => tests.every((test) => test(version));
  }

  #one(): Test {
    if (this.#take("*")) return () => true;
    if (this.#take("!")) {
      const test = this.#one();
      return (version) => !test(version);
    }
    if (this.#take("(")) {
      const test = this.#any();
      if (!this.#take(")")) throw this.#wrong();
      return test;
    }
    const found = /^(\^|~|!=|>=|<=|>|<|=)?\s*(\d.*)$/.exec(this.#tokens[this.#at++] ?? "");
    if (found === null) throw this.#wrong();
    return anchored(found[1] ?? "^", ExtendedVersion.parse(found[2] ?? ""));
  }

  #take(token: string): boolean {
    if (this.#tokens[this.#at] !== token) return false;
    this.#at++;
    return true;
  }

  #wrong(): RangeError {
    return new RangeError(`no range of versions: ${JSON.stringify(this.#text)}`);
  }
}

function anchored(operator: string, anchor: ExtendedVersion): Test {
  const order = (version: ExtendedVersion): number => version.compareForSort(anchor);
  switch (operator) {
    case "=":
      return (version) => order(version) === 0;
    case "!=":
      return (version) => order(version) !== 0;
    case ">":
      return (version) => order(version) > 0;
    case ">=":
      return (version) => order(version) >= 0;
    case "<":
      return (version) => order(version) < 0;
    case "<=":
      return (version) => order(version) <= 0;
    default: {
      // The first number that is not 0 stays as it is, or the first two.
      const { upstream } = anchor;
      const first = upstream.findIndex((number) => number !== 0);
      const fixed =
        operator === "~" ? Math.min(2, upstream.length) : first === -1 ? upstream.length : first + 1;
      const same = (version: ExtendedVersion): boolean =>
        upstream.slice(0, fixed).every((number, at) => (version.upstream[at] ?? 0) === number);
      return (version) => order(version) >= 0 && same(version);
    }
  }
}
