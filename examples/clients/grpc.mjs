// Makes the calls that it reads, one a line, and prints for each which host served, and its status. Its session is in a cookie or in a
// token; with "nothing", each call is a client of its own:
// echo 'serves {"action":"rotate"}' | node grpc.mjs ADDRESS CA.PEM cookie|token|nothing
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { CookieJar } from "tough-cookie";

// gRPC clients keep no cookies. This interceptor does: the cookie goes as metadata, and comes back with the first metadata of an
// answer, or with the status of a call that failed without one.
function keepCookies(jar, url) {
  const keep = (metadata) => metadata.get("set-cookie").forEach((line) => jar.setCookieSync(line, url));
  return (options, nextCall) =>
    new grpc.InterceptingCall(nextCall(options), {
      start(metadata, listener, next) {
        const cookie = jar.getCookieStringSync(url);
        if (cookie) metadata.set("cookie", cookie);
        next(metadata, {
          onReceiveMetadata(metadata, next) {
            keep(metadata);
            next(metadata);
          },
          onReceiveStatus(status, next) {
            keep(status.metadata);
            next(status);
          },
        });
      },
    });
}

// The same with a token of its own as metadata. An empty one asks for a session; in an answer it says that the session is over.
function keepToken() {
  let token = "";
  const keep = (metadata) => metadata.get("x-session-token").forEach((value) => (token = value));
  return (options, nextCall) =>
    new grpc.InterceptingCall(nextCall(options), {
      start(metadata, listener, next) {
        metadata.set("x-session-token", token);
        next(metadata, {
          onReceiveMetadata(metadata, next) {
            keep(metadata);
            next(metadata);
          },
          onReceiveStatus(status, next) {
            keep(status.metadata);
            next(status);
          },
        });
      },
    });
}

const [address, ca, kept] = process.argv.slice(2);
const interceptors = { cookie: [keepCookies(new CookieJar(), `https://${address}/`)], token: [keepToken()], nothing: [] };
const { Who } = grpc.loadPackageDefinition(loadSync(fileURLToPath(new URL("who.proto", import.meta.url)))).mooring.example;
const client = new Who(address, grpc.credentials.createSsl(readFileSync(ca)), {
  interceptors: interceptors[kept],
});

for await (const call of createInterface({ input: process.stdin })) {
  const [, method, question] = call.match(/^(\w+) ?(.*)$/);
  const { hosts, status } = await new Promise((resolve) => {
    const hosts = [];
    const deadline = { deadline: Date.now() + 10_000 };
    if (method === "watch") {
      client
        .watch(JSON.parse(question || "{}"), deadline)
        .on("data", ({ host }) => hosts.push(host))
        .on("error", () => {}) // Told with the status.
        .on("status", (status) => resolve({ hosts, status }));
    } else {
      client
        .serves(JSON.parse(question || "{}"), deadline, (error, answer) => answer && hosts.push(answer.host))
        .on("status", (status) => resolve({ hosts, status }));
    }
  });
  // The trailers name the host as well.
  hosts.push(...status.metadata.get("x-served-by"));
  console.log(`${hosts.join(" ")} ${grpc.status[status.code]}`);
}
client.close();
