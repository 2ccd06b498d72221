
-- The entrance: names what a request asks for in the one header that the route table looks at.

local LONGEST_NAME = 400

-- How a name that no model can have is told to the caller: with "?" for what is odd, which keeps it from being any.
local function odd_name(name)
  return (gsub(sub(name, 1, 256), "[^%w._:/@+-]+", "?")) .. (#name > 256 and "?" or "")
end

-- What an escape of JSON stands for, and the digits behind it, which are its own where it is of the kind \u0061.
local function read_escape(c, digits)
  if c ~= "u" then return (c == "/" and c or "?") .. digits end
  return #digits == 4 and tonumber(digits, 16) < 128 and string.char(tonumber(digits, 16)) or "?"
end

-- A name that is long, odd, or written with escapes, as any reader of JSON has it.
local function unusual_name(text, first, last)
  local name = gsub(sub(text, first, math.min(last, first + 6 * LONGEST_NAME + 5)), "\\(.)(%x?%x?%x?%x?)", read_escape)
  return (#name > LONGEST_NAME or find(name, "[^%w._:/@+-]")) and odd_name(name) or name
end

-- The name between two places of JSON, or one with "?" where no model can be called that. Names of plain characters, all
-- but a few, are looked at in a loop that compiles.
local function model_name(text, first, last)
  if last < first then return "?" end
  if last - first >= LONGEST_NAME then return unusual_name(text, first, last) end
  for at = first, last do
    local c = byte(text, at)
    -- Letters, digits, ":", and "-./" before them; "@" before the large letters.
    if not (c >= 97 and c <= 122 or c >= 64 and c <= 90 or c >= 45 and c <= 58 or c == 95 or c == 43) then
      return unusual_name(text, first, last)
    end
  end
  return sub(text, first, last)
end

-- The same of a text that is no JSON, in which a backslash is one.
local function plain_name(text)
  return find(text, "\\", 1, true) and odd_name(text) or model_name(text, 1, #text)
end

-- What the request log says of a request and no route knows: the model as it was asked for, and whose key came with it,
-- which is off the request before the log is written. Only where there is a log: it costs 4 us.
local function tell_log(handle, model)
  if find(model, "?", 1, true) then model = "?" end
  local asked = { caller = handle:headers():get("x-weighbridge-client"), model = model ~= "" and model or nil }
  handle:streamInfo():dynamicMetadata():set("weighbridge.asked", "request", asked)
end

-- One header for what the route table looks at (type, stream, model) and for where the name stands: each change of a
-- header costs. A client's own was stripped before (internal_only_headers), so that adding does, which is cheaper than
-- replacing. Headers fetched before the body came are void, hence the new ones.
local function name_route(handle, kind, asked, model)
  if LOGGED then tell_log(handle, model) end
  local route = kind .. (asked.stream and " stream " or " whole ") .. model .. " "
  handle:headers():add("x-weighbridge-route", route .. (asked.first or 0) .. " " .. (asked.last or 0))
  return route
end

-- Puts a text into the body, the name of the model standing from its byte `first` on.
local function insert(handle, route, text, first, model)
  handle:body():setBytes(text)
  local headers = handle:headers()
  headers:replace("content-length", tostring(#text))
  headers:replace("x-weighbridge-route", route .. (first - 1) .. " " .. (first + #model))
end

-- Writes the route's default model into a request that names none, and where it stands into the route header.
local function insert_into_json(handle, text, route)
  local default = handle:metadata():get("default")
  if not default then return end
  local open = find(text, "{", 1, true)
  local member = '"model":"' .. default .. '"' .. (find(text, "^%s*}", open + 1) and "" or ",")
  insert(handle, route, sub(text, 1, open) .. member .. sub(text, open + 1), open + 10, default)
end

local function insert_into_form(handle, boundary, route)
  local default = handle:metadata():get("default")
  if not default then return end
  local body = handle:body()
  local part = "--" .. boundary .. '\r\nContent-Disposition: form-data; name="model"\r\n\r\n'
  insert(handle, route, part .. default .. "\r\n" .. body:getBytes(0, body:length()), #part + 1, default)
  collectgarbage()
end

local function is_encoded(handle, headers, kind)
  if (headers:get("content-encoding") or "identity") == "identity" then return false end
  refuse(handle, kind, "415", "Send the body without content-encoding.", nil, "unsupported_content_encoding")
  return true
end

-- What a body of JSON asks for, and its text. Nothing, where the request was refused.
local function read_body(handle, kind)
  local body = handle:body()
  local text = body and body:getBytes(0, body:length()) or ""
  local asked, wrong, key = read_request(text)
  if not asked then return refuse_json(handle, kind, wrong, key) end
  if asked.names_model and not asked.first then
    return refuse(handle, kind, "400", "model must be a string.", "model", "invalid_type")
  end
  if asked.first and asked.last == asked.first + 1 then
    local message = "model must not be empty; leave it out for the default."
    return refuse(handle, kind, "400", message, "model", "invalid_type")
  end
  return asked, text
end

-- The same of a body of any kind.
local function read_json(handle, headers, kind, content_type)
  if content_type ~= "application/json" and not is_json(content_type) then
    local message = "Send the request with content-type application/json, in UTF-8."
    return refuse(handle, kind, "415", message, nil, "unsupported_content_type")
  end
  if is_encoded(handle, headers, kind) then return end
  return read_body(handle, kind)
end

-- Names the route of a request whose body was read, and names the model.
local function go_by_body(handle, kind, asked, text)
  if asked.odd_stream then
    return refuse(handle, kind, "400", "stream must be true or false.", "stream", "invalid_type")
  end
  local model = asked.first and model_name(text, asked.first + 1, asked.last - 1) or ""
  local route = name_route(handle, kind, asked, model)
  if model == "" then insert_into_json(handle, text, route) end
end

-- A request whose body is JSON and names the model.
local function ask_json(handle, headers, kind, content_type)
  local asked, text = read_json(handle, headers, kind, content_type)
  if asked then go_by_body(handle, kind, asked, text) end
end

local function unescaped(text)
  return (gsub(text, "%%(%x%x)", function(hex) return string.char(tonumber(hex, 16)) end))
end

-- A request of Gemini's: the path names the model and says whether it is a stream. Where the body names it as well, it
-- must be the same, or a node that looks there would serve another one.
local function ask_by_path(handle, headers, kind, content_type, name, method)
  local asked, text = read_json(handle, headers, kind, content_type)
  if not asked then return end
  name = unescaped(name)
  local model = plain_name(name)
  if asked.first then
    local _, prefix = find(text, "^models\\?/", asked.first + 1)
    asked.first = prefix or asked.first
    if model_name(text, asked.first + 1, asked.last - 1) ~= model then
      return refuse(handle, kind, "400", "The body names another model than the path.", "model", "invalid_type")
    end
  end
  asked.stream = method == "streamGenerateContent"
  name_route(handle, kind, asked, model)
end

-- A request whose body is a form. It is read in pieces where it lies: a file of megabytes never becomes a Lua string.
local function ask_form(handle, headers, kind, content_type)
  local boundary = boundary_of(content_type)
  if not boundary then
    local message = "Name one boundary of plain characters in content-type, and no charset but UTF-8."
    return refuse(handle, kind, "400", message, nil, "invalid_form")
  end
  if is_encoded(handle, headers, kind) then return end
  local body = handle:body()
  local function get(first, last)
    return last < first and "" or body:getBytes(first - 1, last - first + 1)
  end
  local asked, wrong, name = read_form(get, body and body:length() or 0, boundary)
  if not asked then return refuse_form(handle, kind, wrong, name) end
  if asked.odd_stream then return refuse(handle, kind, "400", "stream must be true or false.", "stream", "invalid_type") end
  local value = asked.value or ""
  local model = value == "" and "" or plain_name(value)
  if model == "" and asked.first then
    return refuse(handle, kind, "400", "model must not be empty; leave the field out for the default.", "model", "invalid_type")
  end
  local route = name_route(handle, kind, asked, model)
  if model == "" then insert_into_form(handle, boundary, route) end
end

-- The query without `key`, in which Gemini's clients may send the caller's key: that is no node's business.
local function without_key(query)
  local kept, found = {}, false
  for pair in string.gmatch(query, "[^&;]+") do
    if lower(unescaped(match(pair, "^[^=]*"))) == "key" then found = true else kept[#kept + 1] = pair end
  end
  if not found then return query end
  return (#kept > 0 and "?" or "") .. table.concat(kept, "&")
end

-- A request whose path has a query, takes forms, or names the model.
local function ask_otherwise(handle, headers, path, content_type)
  local bare, query = match(path, "^([^?]*)%??(.*)$")
  if query ~= "" then
    local kept = without_key(query)
    if kept ~= query then headers:replace(":path", bare .. kept) end
  end
  local kind = FORMS[bare]
  if kind and find(lower(content_type), "^multipart/") then return ask_form(handle, headers, kind, content_type) end
  kind = kind or PLAIN[bare]
  if kind then return ask_json(handle, headers, kind, content_type) end
  local version, model, method = match(bare, "^/(v1%l*)/models/(.+):(%a+)$")
  kind = METHODS[method]
  if kind and VERSIONS[version] then return ask_by_path(handle, headers, kind, content_type, model, method) end
end

-- Whether a request has come through this gateway before, or through more than anybody chains on purpose. Its nodes are
-- then gateways that lead back, and each turn would take another connection and be multiplied by the retries of all.
local function leads_back(handle, hops)
  local own, count = handle:virtualHost():metadata():get("gateway"), 0
  for hop in string.gmatch(hops, "%w+") do
    count = count + 1
    if hop == own or count > MOST_HOPS then return true end
  end
  return false
end

local function refuse_loop(handle, path)
  local bare = match(path, "^[^?]*")
  local kind = PLAIN[bare] or FORMS[bare] or METHODS[match(bare, ":(%a+)$")]
    or PLAIN[match(bare, "^/v1/messages%f[/]")] or "text"
  local message = "The request came through this gateway before, or through too many: "
    .. "a ModelNode of a gateway leads back to one. Give that ModelNode the address of a model server."
  refuse(handle, kind, "508", message, nil, "loop_detected")
end

-- The list of models is found by its address, in which a query (?limit=20, Azure's ?api-version) says nothing.
-- CONNECT has no path.
local function drop_query(headers, path)
  local bare = match(path or "", "^(/v1/models[^?]*)%?")
  if bare then headers:replace(":path", bare) end
end

function envoy_on_request(handle)
  local headers = handle:headers()
  if headers:get(":method") ~= "POST" then return drop_query(headers, headers:get(":path")) end
  local path, content_type = headers:get(":path"), headers:get("content-type") or ""
  local hops = headers:get("x-weighbridge-hops")
  if hops and leads_back(handle, hops) then return refuse_loop(handle, path) end
  local kind = PLAIN[path]
  if kind then return ask_json(handle, headers, kind, content_type) end
  return ask_otherwise(handle, headers, path, content_type)
end
