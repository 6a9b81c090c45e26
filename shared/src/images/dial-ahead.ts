/** Connections to registries that are opened before it is known that they are needed: each saves a round trip to the server. */
import type { Duplex } from 'node:stream';
import type { Session } from '../ports';

/** More registries than a project names. */
const MAX_HOSTS = 4;

/** Whoever waited for the lock for long finds them closed by the other side. */
const FRESH_MS = 5000;

/** A registry that is not encrypted is tried both ways at once. */
const EACH = 2;

/**
 * A session whose `dial` hands out connections that were opened ahead; each once. A wrong guess costs nothing: what was not
 * taken is closed by `drop`.
 */
export function dialAhead(
  session: Session,
  hosts: readonly { readonly host: string; readonly port: number }[],
): { readonly session: Session; readonly drop: () => void } {
  const openedMs = performance.now();
  const waiting = hosts.slice(0, MAX_HOSTS).flatMap(({ host, port }) =>
    Array.from({ length: EACH }, () => {
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
 * The registries that Compose files seem to name, without having been rendered. Docker Hub is not among them: it mostly has
 * a mirror, or is asked for what is there.
 *
 * @param texts of Compose files, as the user wrote them.
 */
export function guessRegistries(
  texts: readonly string[],
  variables: Readonly<Record<string, string | undefined>>,
): { readonly host: string; readonly port: number }[] {
  const references = texts.flatMap((text) =>
    [...text.matchAll(/^\s*image:\s*["']?([^\s"'#]+)/gm)].map(([, reference = '']) =>
      reference.replaceAll(
        /\$\{(\w+)(?::?[-?+]([^}]*))?\}|\$(\w+)/g,
        (_, name: string | undefined, fallback: string | undefined, plain: string | undefined) =>
          variables[name ?? plain ?? ''] ?? fallback ?? '',
      ),
    ),
  );
  const found = new Map<string, { host: string; port: number }>();
  for (const reference of references) {
    // Docker's own rule: a first part with a dot or a port is a registry, everything else is a name on Docker Hub.
    const [, host = '', port] = /^([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?::(\d{1,5}))?\//i.exec(reference) ?? [];
    if (host === '' || (!host.includes('.') && port === undefined && host !== 'localhost')) continue;
    if (host === 'docker.io') continue;
    found.set(`${host}:${port ?? '443'}`, { host: host.toLowerCase(), port: Number(port ?? 443) });
  }
  return [...found.values()];
}
