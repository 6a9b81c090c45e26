export function embedGuardian(options?: { check?: boolean; folder?: URL }): Promise<boolean>;
