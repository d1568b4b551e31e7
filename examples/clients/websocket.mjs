// Opens a WebSocket to each URL of its arguments, with one jar of cookies, and prints which host greets.
import { CookieJar } from "tough-cookie";
import WebSocket from "ws";

const jar = new CookieJar();

// The upgrade is a request like any other: it carries the cookie, and its answer may bring one.
async function connect(url) {
  const cookie = await jar.getCookieString(url);
  const socket = new WebSocket(url, { headers: cookie ? { cookie } : {}, handshakeTimeout: 10_000 });
  socket.once("upgrade", ({ headers }) => headers["set-cookie"]?.forEach((line) => jar.setCookieSync(line, url)));
  return socket;
}

for (const url of process.argv.slice(2)) {
  const socket = await connect(url);
  const host = await new Promise((resolve, reject) => socket.once("message", resolve).once("error", reject));
  console.log(String(host));
  socket.close();
}
