
-- Refusals, in the error shape of the API that the request was made with.

local function quoted(text)
  return '"' .. gsub(text, '[%c"\\\127-\255]', function(c) return string.format("\\u%04x", byte(c)) end) .. '"'
end

-- `kind` is what the route header starts with; before its dot stands the API, if it is not OpenAI's.
local function refuse(handle, kind, status, message, param, code)
  local api, body = match(kind, "^(%a+)%."), nil
  local ours = status >= "500"
  local fault = ours and "api_error" or "invalid_request_error"
  if api == "anthropic" then
    body = '{"type":"error","error":{"type":"' .. fault .. '","message":' .. quoted(message) .. "}}"
  elseif api == "gemini" then
    fault = ours and "INTERNAL" or "INVALID_ARGUMENT"
    body = '{"error":{"code":' .. status .. ',"message":' .. quoted(message) .. ',"status":"' .. fault .. '"}}'
  else
    body = '{"error":{"message":' .. quoted(message) .. ',"type":"' .. fault .. '","param":'
      .. (param and quoted(param) or "null") .. ',"code":' .. quoted(code) .. "}}"
  end
  handle:respond({ [":status"] = status, ["content-type"] = "application/json" }, body)
end

local function refuse_json(handle, kind, wrong, key)
  key = key and sub(key, 1, 64)
  if wrong == "twice" then
    refuse(handle, kind, "400", "The key " .. key .. " stands twice in the body; send it once.", key, "duplicate_key")
  elseif wrong == "alias" then
    local message = "Some servers read the key " .. key .. " as another; write model and stream in small letters."
    refuse(handle, kind, "400", message, key, "duplicate_key")
  elseif wrong == "escaped" then
    refuse(handle, kind, "400", "Write the names of the outermost keys without escapes.", nil, "escaped_key")
  elseif wrong == "deep" then
    refuse(handle, kind, "400", "The body is nested more than " .. DEPTH .. " deep.", nil, "invalid_json")
  else
    refuse(handle, kind, "400", "The body must be one JSON object in UTF-8.", nil, "invalid_json")
  end
end

local function refuse_form(handle, kind, wrong, name)
  if wrong == "twice" then
    refuse(handle, kind, "400", "The field " .. name .. " stands twice in the form; send it once.", name, "duplicate_key")
  elseif wrong == "field" then
    local message = "Send the fields model and stream as plain text in UTF-8, by these names."
    refuse(handle, kind, "400", message, name, "invalid_form")
  elseif wrong == "head" then
    local message = "Each part's head must be plain: one Content-Disposition: form-data with the field's name in quotes, "
      .. "of a file also filename; no \"; name=\" within that, and no semicolon where it has backslashes."
    refuse(handle, kind, "400", message, nil, "invalid_form")
  elseif wrong == "parts" then
    refuse(handle, kind, "400", "The form has more than " .. PARTS .. " parts; send fewer.", nil, "invalid_form")
  else
    local message = "The form must be plain multipart/form-data: lines end with CRLF, nothing stands outside of its parts."
    refuse(handle, kind, "400", message, nil, "invalid_form")
  end
end
