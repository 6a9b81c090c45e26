/** Jest's way from TypeScript to JavaScript: Node's own. What does not compile is seen by the stage `types`. */
import { createHash } from 'node:crypto';
import { stripTypeScriptTypes } from 'node:module';

export default {
  process: (source, path) => ({
    code: stripTypeScriptTypes(source, { mode: 'transform', sourceMap: true, sourceUrl: path }),
  }),
  getCacheKey: (source, path) => createHash('sha256').update(`${process.version} ${path}\n${source}`).digest('hex'),
};
