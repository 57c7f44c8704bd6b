"""The client that openapi-python-client writes from our document does what a program at a desk does.

Usage: generated_client.py FOLDER-OF-THE-CLIENT ADDRESS TOKEN
"""

import builtins
import datetime
import importlib
import sys

folder, address, token = sys.argv[1:]
sys.path.insert(0, folder)
# The generator forgets this import where a body has two media types.
builtins.Unset = importlib.import_module("generated.types").Unset
client = importlib.import_module("generated").AuthenticatedClient(base_url=address, token=token)


def operation(name):
    return importlib.import_module(f"generated.api.{name}").sync


def model(module, name):
    return getattr(importlib.import_module(f"generated.models.{module}"), name)


NewCheckin, ChangedCheckin = model("new_checkin", "NewCheckin"), model("changed_checkin", "ChangedCheckin")
NewCoworker, ChangedCoworker = model("new_coworker", "NewCoworker"), model("changed_coworker", "ChangedCoworker")
start = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) - datetime.timedelta(hours=3)
end = start + datetime.timedelta(hours=1)

# A person.
created = operation("coworker.create_coworker")(client=client, body=NewCoworker(full_name="Cy Client"))
assert created.was_successful, created
person = created.value.id
page = operation("coworker.list_coworkers")(client=client, coworker_full_name="cy cl")
assert [(one.id, one.full_name) for one in page.records] == [(person, "Cy Client")], page
changed = ChangedCoworker(id=person, full_name="Cy Changed")
assert operation("coworker.update_coworker")(client=client, body=changed).was_successful
assert operation("coworker.get_coworker")(id=person, client=client).full_name == "Cy Changed"

# A visit.
wish = NewCheckin(business_id=1, coworker_id=person, from_time=start, to_time=end, ignore_admission=True)
created = operation("checkin.create_checkin")(client=client, body=wish)
assert created.was_successful, created
number = created.value.id
visit = operation("checkin.get_checkin")(id=number, client=client)
assert (visit.coworker_id, visit.from_time, visit.to_time) == (person, start, end), visit
assert (visit.source, visit.unique_id) == (1, created.value.unique_id), visit
page = operation("checkin.list_checkins")(client=client, checkin_coworker_id=person)
assert [one.id for one in page.records] == [number] and page.total_items == 1, page
later = end + datetime.timedelta(minutes=30)
assert operation("checkin.update_checkin")(client=client, body=ChangedCheckin(id=number, to_time=later)).was_successful
assert operation("checkin.get_checkin")(id=number, client=client).to_time == later
assert operation("checkin.delete_checkin")(id=number, client=client).was_successful
gone = operation("checkin.get_checkin")(id=number, client=client)
assert gone.status == 404 and not gone.was_successful and gone.request_id, gone

# What is refused is a value too.
refused = operation("checkin.create_checkin")(client=client, body=NewCheckin(business_id=1, from_time="soon"))
assert refused.status == 400 and refused.errors[0].property_name == "FromTime", refused

assert operation("coworker.delete_coworker")(id=person, client=client).was_successful
assert operation("account.get_current_user")(client=client).is_admin
print("done")
