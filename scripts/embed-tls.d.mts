export function embedTls(options?: { check?: boolean; folder?: URL }): Promise<boolean>;
