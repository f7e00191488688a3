import type { PackageEffects } from "start-container/package";
import { sdk } from "./sdk.ts";

const page = sdk.FileHelper.string({ base: sdk.volumes.main, subpath: "index.html" });

/** Writes the page that is served, with the title that was chosen. */
export async function writePage(effects: PackageEffects): Promise<void> {
  const { value = "Hello" } = await effects.host.kv("settings").get<string>("title");
  const text = value.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  await page.write(effects, `<!doctype html><title>${text}</title><h1>${text}</h1>\n`);
}
