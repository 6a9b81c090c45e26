/** Connections to registries that are opened before it is known that they are needed: each saves a round trip to the server. */
import type { Duplex } from 'node:stream';
import { isObject, type JsonObject } from '../compose/project';
import { parseYaml } from '../compose/yaml';
import { readList, readMember, readText } from '../json';
import type { Session } from '../ports';

/** More registries than a project names, and more than is polite at one of them. */
const MAX_REGISTRIES = 4;
const MAX_EACH = 4;

/** Whoever waited for the lock for long finds them closed by the other side. */
const FRESH_MS = 5000;

/** Where images are asked for. */
export interface Registry {
  readonly host: string;
  readonly port: number;
  /** All are asked for at once, each on a connection of its own. */
  readonly images: number;
}

/**
 * A session whose `dial` hands out connections that were opened ahead; each once. A wrong guess costs nothing: what was not
 * taken is closed by `drop`.
 */
export function dialAhead(
  session: Session,
  registries: readonly Registry[],
): { readonly session: Session; readonly drop: () => void } {
  const openedMs = performance.now();
  const waiting = registries.slice(0, MAX_REGISTRIES).flatMap(({ host, port, images }) =>
    // One that may not be encrypted is tried both ways at once.
    Array.from({ length: Math.min(images + 1, MAX_EACH) }, () => {
      const connection = session.dial(host, port);
      connection.catch(() => undefined);
      return { host, port, connection };
    }),
  );
  const dial = (host: string, port: number): Promise<Duplex> => {
    const isFresh = performance.now() - openedMs < FRESH_MS;
    const index = isFresh ? waiting.findIndex((one) => one.host === host && one.port === port) : -1;
    const [taken] = index < 0 ? [] : waiting.splice(index, 1);
    return taken?.connection ?? session.dial(host, port);
  };
  return {
    session: {
      where: session.where,
      run: (command, options) => session.run(command, options),
      start: (command) => session.start(command),
      close: () => session.close(),
      dial,
    },
    drop: () => {
      for (const { connection } of waiting.splice(0)) {
        connection.then((socket) => socket.destroy()).catch(() => undefined);
      }
    },
  };
}

/**
 * The images that Compose files seem to name, without having been rendered; each once. Nothing of a file that is no YAML: Compose says why.
 *
 * @param texts of Compose files, as the user wrote them, in the order in which each goes over those before it.
 */
export function guessImages(
  texts: readonly string[],
  variables: Readonly<Record<string, string | undefined>>,
): string[] {
  const references = new Map<string, string>();
  for (const text of texts) {
    for (const [name, service] of Object.entries(readServices(text))) {
      const image = readText(service, 'image');
      if (image !== '') references.set(name, image);
      // Not of this deploy, where its profile is not active.
      if (readList(service, 'profiles').length > 0) references.delete(name);
    }
  }
  const known = [...references.values()].map((reference) =>
    reference.replaceAll(
      /\$\{(\w+)(?::?[-?+]([^}]*))?\}|\$(\w+)/g,
      (_, name: string | undefined, fallback: string | undefined, plain: string | undefined) =>
        variables[name ?? plain ?? ''] ?? fallback ?? '',
    ),
  );
  return [...new Set(known)];
}

function readServices(text: string): JsonObject {
  try {
    const services = readMember(parseYaml(text), 'services');
    return isObject(services) ? services : {};
  } catch {
    return {};
  }
}

/** The registries of images. Docker Hub is not among them: it mostly has a mirror, which only its daemon knows. */
export function registriesOf(references: readonly string[]): Registry[] {
  const found = new Map<string, Registry>();
  for (const reference of references) {
    // Docker's own rule: a first part with a dot or a port is a registry, everything else is a name on Docker Hub.
    const [, host = '', port] = /^([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?::(\d{1,5}))?\//i.exec(reference) ?? [];
    if (host === '' || (!host.includes('.') && port === undefined && host !== 'localhost')) continue;
    if (host === 'docker.io') continue;
    const key = `${host.toLowerCase()}:${port ?? '443'}`;
    found.set(key, { host: host.toLowerCase(), port: Number(port ?? 443), images: (found.get(key)?.images ?? 0) + 1 });
  }
  return [...found.values()];
}
