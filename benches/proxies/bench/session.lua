-- Sessions as a script has them: a cookie with the host, as the bridge writes it, neither signed nor timed.
function envoy_on_request(handle)
  local headers = handle:headers()
  local cookies = headers:get("cookie") or ""
  local host = cookies:match("^sid=([^;]*)") or cookies:match("; sid=([^;]*)")
  if host then
    headers:replace("HOST_HEADER", host)
  elseif headers:get("HOST_HEADER") then
    headers:remove("HOST_HEADER")
  end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local host = headers:get("HOST_HEADER")
  if host then
    headers:remove("HOST_HEADER")
    headers:add("set-cookie", "sid=" .. host .. "; Path=/; HttpOnly")
  end
end
