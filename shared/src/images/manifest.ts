/** Image manifests and indexes, of OCI and of Docker (https://github.com/opencontainers/image-spec/blob/main/manifest.md). */
import { type Json, parseJson, readList, readMember, readNumber, readText } from '../json';
import { excerpt } from '../shell/excerpt';
import type { Platform } from './daemon';
import { isDigest } from './reference';

/** What we accept as an answer, in the daemon's order. */
export const ACCEPT = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
].join(', ');

export interface Descriptor {
  readonly digest: string;
  readonly bytes: number;
  readonly mediaType: string;
}

export interface PlatformDescriptor extends Descriptor {
  readonly platform: Platform;
}

export type Manifest =
  | { readonly kind: 'index'; readonly mediaType: string; readonly manifests: readonly PlatformDescriptor[] }
  | {
      readonly kind: 'image';
      readonly mediaType: string;
      readonly config: Descriptor;
      readonly layers: readonly Descriptor[];
    }
  /** `why` completes "the registry's answer": "is ...". */
  | { readonly kind: 'unusable'; readonly why: string };

/** More layers than any image has: the daemon's storage drivers stop at 127. */
const MAX_LAYERS = 1000;

/** @param contentType the answer's header; what the document says of itself comes first, as in the daemon. */
export function parseManifest(text: string, contentType: string): Manifest {
  const json = parseJson(text);
  if (typeof json !== 'object' || json === null) {
    return {
      kind: 'unusable',
      why: `is not an image manifest but ${excerpt(contentType, 100) || 'something without a type'}`,
    };
  }
  const mediaType = readText(json, 'mediaType') || contentType.replace(/;.*$/s, '').trim().toLowerCase();
  if (readNumber(json, 'schemaVersion') === 1 || mediaType.includes('manifest.v1+prettyjws')) {
    return { kind: 'unusable', why: 'is an image of the old format "schema 1", which Docker does not pull any more' };
  }
  if (Array.isArray(readMember(json, 'manifests'))) return parseIndex(json, mediaType);
  if (Array.isArray(readMember(json, 'layers'))) return parseImage(json, mediaType);
  return { kind: 'unusable', why: `is of the type ${JSON.stringify(excerpt(mediaType, 100))}, which is not an image` };
}

function parseIndex(json: Json, mediaType: string): Manifest {
  const manifests = readList(json, 'manifests').flatMap((entry): PlatformDescriptor[] => {
    const descriptor = parseDescriptor(entry);
    const platform: Platform = {
      os: readText(entry, 'platform', 'os').toLowerCase(),
      architecture: readText(entry, 'platform', 'architecture').toLowerCase(),
      variant: readText(entry, 'platform', 'variant').toLowerCase(),
    };
    // Attestations (provenance, SBOM) are listed as images for `unknown/unknown`.
    const runnable = ![platform.os, platform.architecture].some((word) => word === '' || word === 'unknown');
    return descriptor !== undefined && runnable ? [{ ...descriptor, platform }] : [];
  });
  return { kind: 'index', mediaType, manifests };
}

function parseImage(json: Json, mediaType: string): Manifest {
  const config = parseDescriptor(readMember(json, 'config'));
  const listed = readList(json, 'layers');
  const layers = listed.map(parseDescriptor).filter((layer) => layer !== undefined);
  if (config === undefined || layers.length !== listed.length || layers.length > MAX_LAYERS) {
    return { kind: 'unusable', why: 'is a damaged image manifest' };
  }
  return { kind: 'image', mediaType, config, layers };
}

function parseDescriptor(json: Json | undefined): Descriptor | undefined {
  const digest = readText(json, 'digest');
  const bytes = readNumber(json, 'size');
  if (!isDigest(digest) || !Number.isSafeInteger(bytes) || bytes < 0) return undefined;
  return { digest, bytes, mediaType: readText(json, 'mediaType').toLowerCase() };
}

/** What an image's configuration says: for which platform it is, and the digests of its unpacked layers (empty if unknown). */
export function parseConfig(text: string): {
  readonly platform: Platform | undefined;
  readonly diffIds: readonly string[];
} {
  const json = parseJson(text);
  const diffIds = readList(json, 'rootfs', 'diff_ids').filter((id) => typeof id === 'string');
  const os = readText(json, 'os').toLowerCase();
  const architecture = readText(json, 'architecture').toLowerCase();
  return {
    platform:
      os === '' || architecture === ''
        ? undefined
        : { os, architecture, variant: readText(json, 'variant').toLowerCase() },
    diffIds: diffIds.every(isDigest) ? diffIds : [],
  };
}
