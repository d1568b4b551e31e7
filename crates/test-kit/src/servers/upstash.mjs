// Serves the package whose module is named in the first argument on a free port of 127.0.0.1, and prints the port.
// The package's own program listens on every address, and one of its paths asks for no token; nor does it take a port that is free.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [module] = process.argv.slice(2);
const { createApp } = await import(pathToFileURL(module));
const { serve } = await import(pathToFileURL(createRequire(module).resolve("@hono/node-server")));

const app = createApp({ token: process.env.URS_TOKEN, redisUrl: process.env.REDIS_URL });
serve({ fetch: app.fetch, hostname: "127.0.0.1", port: 0 }, ({ port }) => console.log(port));
