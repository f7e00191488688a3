import { defineConfig, type ViteUserConfig } from "vitest/config";

const config: ViteUserConfig = defineConfig({
  test: {
    projects: [
      { test: { name: "pure", include: ["test/pure/**/*.test.ts"], sequence: { groupOrder: 0 } } },
      {
        test: {
          name: "host",
          include: ["test/host/**/*.test.ts"],
          globalSetup: ["test/host/setup.ts"],
          testTimeout: 60_000,
          hookTimeout: 120_000,
          // Each file has its own connection; a few at a time show that they do not disturb each other.
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          name: "services",
          include: ["test/services/**/*.test.ts"],
          globalSetup: ["test/services/setup.ts"],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          sequence: { groupOrder: 2 },
        },
      },
      {
        test: {
          name: "soak",
          include: ["test/soak/**/*.test.ts"],
          sequence: { groupOrder: 3 },
        },
      },
      {
        test: {
          name: "outside",
          include: ["test/package/**/*.test.ts", "test/start-sdk/**/*.test.ts"],
          testTimeout: 300_000,
          hookTimeout: 300_000,
          fileParallelism: false,
          sequence: { groupOrder: 4 },
        },
      },
    ],
  },
});

export default config;
