import { sdk } from "./sdk";

export const port = 5432;
/** Where the databases are, and the socket for who is on this machine. */
export const databases = "/data/db";

export const mounts = sdk.Mounts.of().mountVolume({
  volumeId: "main",
  subpath: null,
  mountpoint: "/data",
  readonly: false,
});
