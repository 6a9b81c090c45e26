/** What every release gets on its way to the server. Pure. */
import { type JsonObject, readProject } from '../compose/project';
import { mountFolders } from '../compose/rewrite';
import type { StoreLayout } from '../releases/layout';
import { ROUTER_MOUNT, routerFolder } from '../routers/nginx';

/** Routers read what Slipway writes for them in a folder of their own. */
export function mountRouters(raw: JsonObject, layout: StoreLayout): JsonObject {
  const routers = new Set(readProject(raw).services.flatMap((service) => service.router?.service ?? []));
  return mountFolders(
    raw,
    Object.fromEntries(
      [...routers].map((router) => [router, { source: routerFolder(layout, router), target: ROUTER_MOUNT }]),
    ),
  );
}
