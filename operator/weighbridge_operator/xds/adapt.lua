-- Adapts a request to the node that was chosen for it: the name that this node gives the model, and its base path.
-- Runs in the upstream filter chain, anew for each try, so that a retry on another node is adapted to that one.
--
-- All tries share one set of headers, while each gets the body as the client sent it. So nothing that the next try needs
-- may be removed, and what an earlier one wrote (path, content-length) is always written again. The node's facts come as
-- headers from its endpoint metadata, new for each try: "served" is ";model=name;model=name;". The route's metadata says
-- which models it asks for, the preferred first, separated by blanks.

local SUFFIXES = { "/chat/completions", "/completions", "/embeddings" }
local find, match, sub = string.find, string.match, string.sub

local function name_on_node(served, wanted)
  for model in string.gmatch(wanted, "%S+") do
    local _, at = find(served, ";" .. model .. "=", 1, true)
    if at then return sub(served, at + 1, find(served, ";", at + 1, true) - 1) end
  end
end

-- The path ends with the suffix whatever stood before it, the caller's /v1 or the base of the node tried before.
local function path_on_node(path, base)
  local bare = match(path, "^[^?]*")
  for _, suffix in ipairs(SUFFIXES) do
    if sub(bare, -#suffix) == suffix then return base .. sub(path, #bare - #suffix + 1) end
  end
  return path
end

function envoy_on_request(handle)
  local headers, wanted = handle:headers(), handle:metadata():get("models")
  local served, base = headers:get("x-weighbridge-served"), headers:get("x-weighbridge-base")
  local route = headers:get("x-weighbridge-route")
  headers:remove("x-weighbridge-served")
  headers:remove("x-weighbridge-base")
  headers:remove("x-envoy-original-host")
  headers:replace(":path", path_on_node(headers:get(":path"), base or ""))
  local body = handle:body()
  if not body then return end
  local text, name = body:getBytes(0, body:length()), served and wanted and name_on_node(served, wanted)
  local first, last = match(route or "", "(%d+) (%d+)$")
  if name and tonumber(first or 0) > 0 then
    text = sub(text, 1, first) .. name .. sub(text, last)
    body:setBytes(text)
  end
  handle:headers():replace("content-length", tostring(#text))
end
