import { sdk } from "./sdk.ts";

/** The database is dumped, and a restore makes a new one of the dump: also with a later PostgreSQL. */
export const { createBackup, restoreInit } = sdk.setupBackups(async () =>
  sdk.Backups.withPgDump({
    imageId: "main",
    dbVolume: "main",
    mountpoint: "/data",
    pgdataPath: "/db",
    database: "postgres",
    user: "postgres",
    password: null,
    initdbArgs: ["--auth=peer", "--encoding=UTF8", "--locale=C"],
  }),
);
