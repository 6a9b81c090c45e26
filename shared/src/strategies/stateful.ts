import type { Mount, Service } from '../compose/project';

/**
 * A service that keeps something: a named or anonymous volume, or a writable folder of the server. Two of it at once on the
 * same data corrupt it, and a moved tag must not restart it. Shipped files (content-addressed) are read, not kept.
 */
export function isStateful(service: Service): boolean {
  return service.mounts.some(isStatefulMount);
}

export function isStatefulMount(mount: Mount): boolean {
  return (
    !mount.readOnly &&
    (mount.type === 'volume' ||
      (mount.type === 'bind' && !mount.source.includes('/.slipway/files/') && mount.source !== '/var/run/docker.sock'))
  );
}
