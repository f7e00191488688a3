import { sdk } from "./sdk";
import { storeJson } from "./store";
import { databases, mounts, port } from "./utils";

export const main = sdk.setupMain(async ({ effects }) => {
  const store = await storeJson.read().const(effects);
  if (!store) throw new Error("there is no store.json");
  const { password, sharedBuffers } = store;
  const db = sdk.SubContainer.of(effects, { imageId: "postgres" }, mounts, "postgres");
  const once = `
    test -s ${databases}/PG_VERSION || initdb -D ${databases} --auth-local=peer --auth-host=reject || exit
    sed -i 's/reject$/scram-sha-256/' ${databases}/pg_hba.conf`;
  return sdk.Daemons.of(effects)
    .addOneshot("directory", {
      subcontainer: db,
      exec: { command: ["install", "-d", "-o", "postgres", "-m", "700", databases], user: "root" },
      requires: [],
    })
    .addOneshot("initdb", {
      subcontainer: db,
      exec: {
        command: ["sh", "-c", once],
        user: "postgres",
      },
      requires: ["directory"],
    })
    .addDaemon("postgres", {
      subcontainer: db,
      exec: {
        command: sdk.useEntrypoint(["postgres", "-k", databases, "-c", `shared_buffers=${sharedBuffers}`]),
        env: { PGDATA: databases },
        user: "postgres",
      },
      ready: {
        display: "Database",
        fn: () =>
          sdk.healthCheck.checkPortListening(effects, port, {
            successMessage: "The database takes connections",
            errorMessage: "The database does not take connections",
          }),
      },
      requires: ["initdb"],
    })
    .addOneshot("password", () =>
      password === ""
        ? null
        : {
            subcontainer: db,
            exec: {
              fn: async () => {
                const psql = ["psql", "-h", databases, "-v", `password=${password}`];
                await db.execFail(psql, {
                  user: "postgres",
                  input: `ALTER ROLE postgres PASSWORD :'password'`,
                });
                return null;
              },
            },
            requires: ["postgres"],
          },
    );
});
