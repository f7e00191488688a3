import { setupManifest } from "@start9labs/start-sdk";

export const manifest = setupManifest({
  id: "postgresql",
  title: "PostgreSQL",
  license: "PostgreSQL",
  packageRepo: "https://example.com/postgresql-startos",
  upstreamRepo: "https://git.postgresql.org/cgit/postgresql.git",
  marketingUrl: "https://www.postgresql.org",
  donationUrl: null,
  description: {
    short: { en_US: "A database", de_DE: "Eine Datenbank" },
    long: "PostgreSQL, with a password and as many databases as you like",
  },
  volumes: ["main"],
  images: {
    postgres: { source: { dockerTag: "postgres:17" }, arch: ["x86_64", "aarch64"] },
  },
  dependencies: {},
});
