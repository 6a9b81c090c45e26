export function readTag(tag: string): { version: string; major: string; isPrerelease: boolean } | undefined;
export function extractNotes(changelog: string, version: string): string;
export function findProblems(files: {
  tag: string;
  manifest: { version: string };
  lock: { version: string; packages: Record<string, { version?: string }> };
  changelog: string;
}): string[];
export interface Sbom {
  serialNumber?: string;
  metadata?: { timestamp?: string };
  components: { name: string; version: string; 'bom-ref': string }[];
  dependencies: { ref: string; dependsOn: string[] }[];
}
export function keepBundled(
  sbom: Sbom,
  lock: { packages: Record<string, { version?: string; dev?: boolean }> },
  licenses: string,
): Sbom;
export function pinSbom(sbom: Sbom, committed: string): Sbom;
