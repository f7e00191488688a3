/**
 * Interfaces: ports of a package that are meant for others, and what is behind them.
 *
 * ```text
 * MultiHost.of ─▶ bindPort ─▶ origin ── export([createInterface(…), …]) ─▶ receipts ─▶ setupInterfaces ─▶ `package status`
 * ```
 * They are shown, and nothing publishes them: their addresses are those in the package's own network.
 */
import type { InterfaceKind } from "../generated/protocol.ts";
import type { PackageEffects } from "./effects.ts";
import { notHere } from "./not-here.ts";

/** Protocols with a scheme of their own in addresses. */
const SCHEMES = ["http", "https", "ws", "wss", "ssh", "dns"] as const;

/** What speaks at a port. */
export interface BindOptions {
  protocol: (typeof SCHEMES)[number] | null;
  /** The port that others would like to use. Kept, and not used: nothing publishes it. */
  preferredExternalPort?: number;
  /** For what publishes ports with TLS. Not used. */
  addSsl?: object | null;
  /** Whether the protocol is safe by itself. Not used. */
  secure?: { ssl: boolean } | null;
}

/** What is behind a port. */
export interface InterfaceOptions {
  /** For people. */
  name: string;
  id: string;
  /** For people. */
  description: string;
  type: InterfaceKind;
  /** Its address holds a secret. */
  masked: boolean;
  /** In place of the protocol's own; null: that one. */
  schemeOverride: { ssl: string | null; noSsl: string | null } | null;
  /** In the address. */
  username: string | null;
  path: string;
  query: Record<string, string>;
}

/** What is behind a port: `sdk.createInterface` makes it. */
export class ServiceInterfaceBuilder {
  readonly options: InterfaceOptions & { effects: PackageEffects };

  constructor(options: InterfaceOptions & { effects: PackageEffects }) {
    this.options = options;
  }
}

/** An interface, as it is shown. */
export interface ExportedInterface {
  id: string;
  name: string;
  description: string;
  type: InterfaceKind;
  masked: boolean;
  /** The `MultiHost` that it belongs to. */
  hostId: string;
  /** In the package's own network. */
  port: number;
  protocol: string | null;
  /** Where, in the package's own network: `http://127.0.0.1:8080/admin`. */
  address: string;
}

/** That interfaces were exported. */
export type AddressReceipt = readonly ExportedInterface[];

/** A port that was bound. */
export class Origin {
  readonly host: MultiHost;
  readonly internalPort: number;
  readonly scheme: string | null;

  /** @internal */
  constructor(host: MultiHost, internalPort: number, scheme: string | null) {
    this.host = host;
    this.internalPort = internalPort;
    this.scheme = scheme;
  }

  /** Says what is behind the port. */
  async export(interfaces: readonly ServiceInterfaceBuilder[]): Promise<AddressReceipt> {
    return interfaces.map(({ options }) => ({
      id: options.id,
      name: options.name,
      description: options.description,
      type: options.type,
      masked: options.masked,
      hostId: this.host.id,
      port: this.internalPort,
      protocol: this.scheme,
      address: this.#address(options),
    }));
  }

  #address({ schemeOverride, username, path, query }: InterfaceOptions): string {
    const scheme = schemeOverride === null ? this.scheme : schemeOverride.noSsl;
    const user = username === null ? "" : `${encodeURIComponent(username)}@`;
    const search = new URLSearchParams(query).toString();
    const slash = path === "" || path.startsWith("/") ? "" : "/";
    const start = scheme === null ? "" : `${scheme}://`;
    return `${start}${user}127.0.0.1:${this.internalPort}${slash}${path}${search === "" ? "" : `?${search}`}`;
  }
}

/** Ports that belong together. */
export class MultiHost {
  readonly id: string;

  private constructor(id: string) {
    this.id = id;
  }

  /** A group of this name. */
  static of(_effects: PackageEffects, id: string): MultiHost {
    return new MultiHost(id);
  }

  /** A port of the package's own network. @throws RangeError where there is no such port */
  async bindPort(internalPort: number, options: BindOptions): Promise<Origin> {
    if (!(Number.isInteger(internalPort) && internalPort > 0 && internalPort < 65_536))
      throw new RangeError(`no port: ${internalPort}`);
    return new Origin(this, internalPort, options.protocol);
  }

  /** Not on this host. @throws NotOnThisHostError */
  readonly bindPortRange: (options?: object) => never = notHere(
    "bindPortRange",
    "nothing publishes a package's ports on this host",
  );
}

/** A step of `setupInit` that says which ports are for others. */
export type UpdateServiceInterfaces = (effects: PackageEffects) => Promise<null>;

/** The function that says which ports are for others gives the receipts of all of them: others are forgotten. */
export function setupInterfaces(
  fn: (options: { effects: PackageEffects }) => Promise<readonly AddressReceipt[]>,
): UpdateServiceInterfaces {
  return async (effects) => {
    const interfaces = (await fn({ effects })).flat();
    const twice = interfaces.find(({ id }, at) => interfaces.findIndex((other) => other.id === id) !== at);
    if (twice !== undefined) throw new RangeError(`there are two interfaces ${twice.id}`);
    effects.state.interfaces = interfaces;
    effects.state.changed();
    return null;
  };
}
