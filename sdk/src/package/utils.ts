/**
 * Small things that packages use: passwords, patterns of fields, texts.
 */
import { randomInt } from "node:crypto";
import type { Pattern } from "./input.ts";

/** How a random text is made: `{ charset: "a-z,0-9,!", len: 20 }`. */
export interface RandomString {
  /** Characters and ranges of them, with commas between. */
  charset: string;
  len: number;
}

/** A text as it is, or a random one. */
export function getDefaultString(spec: string | RandomString): string {
  if (typeof spec === "string") return spec;
  const letters = spec.charset.split(",").flatMap((part) => {
    const [first, last] = [
      part.codePointAt(0),
      part.length === 3 && part[1] === "-" ? part.codePointAt(2) : undefined,
    ];
    if (first === undefined || last === undefined) return [...part];
    return Array.from({ length: Math.max(0, last - first + 1) }, (_, at) => String.fromCodePoint(first + at));
  });
  if (letters.length === 0) throw new RangeError(`no characters: ${JSON.stringify(spec.charset)}`);
  return Array.from({ length: spec.len }, () => letters[randomInt(letters.length)]).join("");
}

/** Null for an empty text. */
export function nullIfEmpty<T extends string>(text: T): T | null {
  return text === "" ? null : text;
}

/** Patterns of fields of forms. */
export const Patterns: Readonly<Record<"ascii" | "base64" | "domain" | "email" | "ipv4" | "url", Pattern>> = {
  ascii: { regex: "^[ -~]*$", description: "only printable ASCII characters" },
  base64: {
    regex: "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
    description: "it must be base64",
  },
  domain: {
    regex: "^(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\\.)+[A-Za-z]{2,63}$",
    description: "it must be a domain name",
  },
  email: {
    regex: '^[^\\s@<>"]+@(?:[A-Za-z0-9-]+\\.)+[A-Za-z]{2,63}$',
    description: "it must be an address of mail",
  },
  ipv4: {
    regex: "^(?:(?:25[0-5]|2[0-4]\\d|1?\\d?\\d)(?:\\.(?!$)|$)){4}$",
    description: "it must be an IPv4 address",
  },
  url: { regex: "^https?://[^\\s/?#]+[^\\s]*$", description: "it must be an http or https URL" },
};

/** Texts in the package's own language: the host knows none of people. `${name}` in them is replaced. */
export function setupI18n<Dict extends Record<string, number>>(
  _default: Dict,
  _translations: Record<string, Record<number, string>>,
  _language: string,
): (key: keyof Dict & string, params?: Record<string, string | number | Date>) => string {
  return (key, params = {}) =>
    key.replaceAll(/\$\{(\w+)\}/g, (whole, name: string) =>
      Object.hasOwn(params, name) ? String(params[name]) : whole,
    );
}
