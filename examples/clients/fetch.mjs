// Requests the URLs of its arguments, one after the other with one jar of cookies, and prints which host served each.
import makeFetchCookie from "fetch-cookie";
import { CookieJar } from "tough-cookie";

const fetchWithCookies = makeFetchCookie(fetch, new CookieJar()); // Node's own fetch keeps no cookies.

for (const url of process.argv.slice(2)) {
  const response = await fetchWithCookies(url, { signal: AbortSignal.timeout(10_000) });
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  await response.text();
  console.log(response.headers.get("x-served-by"));
}
