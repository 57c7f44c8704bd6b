"""The client `nexudus` from PyPI, with its address changed, works against the daemon.

It comes with three entities that we do not have. Its users add others in the same way: a class with an address, whose
methods pass their arguments on. So does this script, for those that we have.

Usage: nexudus_client.py ADDRESS USER PASSWORD
"""

import datetime
import sys

from nexudus import nexudus
from nexudus.nexudus import Booking, MissingRequiredArgumentException, Nexudus, parse_body, parse_params

address, user, password = sys.argv[1:]


class Checkin(Nexudus):
    BASE_URL = address + "/api/spaces/checkins"

    def get_checkins(self, Checkin_Id=None, Checkin_Coworker=None, Checkin_Business=None, Checkin_AutoCheckout=None,
                     Checkin_Coworker_FullName=None, page=None, size=None, orderBy=None, dir=None):
        return self.session.get(self.BASE_URL, params=parse_params(locals()))

    def get_checkin_by_id(self, Checkin_Id):
        return self.session.get(self.BASE_URL + "/{}".format(Checkin_Id))

    def create_checkin(self, BusinessId=None, CoworkerId=None, FromTime=None, ToTime=None):
        return self.session.post(self.BASE_URL, data=parse_body(locals()))

    def update_checkin(self, Id=None, BusinessId=None, FromTime=None, ToTime=None):
        return self.session.put(self.BASE_URL, data=parse_body(locals()))

    def delete_checkin(self, Checkin_Id):
        return self.session.delete(self.BASE_URL + "/{}".format(Checkin_Id))


class Coworker(Nexudus):
    BASE_URL = address + "/api/spaces/coworkers"

    def get_coworkers(self, Coworker_FullName=None, Coworker_Email=None):
        return self.session.get(self.BASE_URL, params=parse_params(locals()))

    def create_coworker(self, FullName=None, Email=None, Active=None):
        return self.session.post(self.BASE_URL, data=parse_body(locals()))


def done(answer):
    body = answer.json()
    assert answer.status_code == 200 and body["WasSuccessful"] is True and body["Errors"] is None, body
    return body["Value"]["Id"]


now = datetime.datetime.now(datetime.timezone.utc)


def hours_ago(hours):
    return (now - datetime.timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")


checkins, coworkers = Checkin(user, password), Coworker(user, password)
number = done(checkins.create_checkin(1, 7, hours_ago(5), hours_ago(4)))
visit = checkins.get_checkin_by_id(number).json()
assert (visit["CoworkerId"], visit["FromTime"], visit["ToTime"]) == (7, hours_ago(5), hours_ago(4)), visit
listed = checkins.get_checkins(Checkin_Coworker=7, Checkin_AutoCheckout=False, size=5, orderBy="ToTime", dir="Descending")
assert [one["Id"] for one in listed.json()["Records"]] == [number], listed.text
assert checkins.get_checkins(Checkin_Id="[{}]".format(number)).json()[0] == visit
done(checkins.update_checkin(number, 1, hours_ago(5), hours_ago(3)))
assert checkins.get_checkin_by_id(number).json()["ToTime"] == hours_ago(3)
done(checkins.delete_checkin(number))
assert checkins.get_checkin_by_id(number).status_code == 404
assert checkins.delete_checkin(number).status_code == 404

person = done(coworkers.create_coworker("Nia Nexudus", "nia@example.com", True))
found = coworkers.get_coworkers(Coworker_Email="nia@example.com").json()["Records"]
assert [(one["Id"], one["FullName"], one["Active"]) for one in found] == [(person, "Nia Nexudus", True)], found

# Its own check of arguments, and what it shows of an entity that we do not have.
try:
    checkins.create_checkin(BusinessId=1)
    sys.exit("the client sent a body without required keys")
except MissingRequiredArgumentException:
    pass
Booking.BASE_URL = Booking.BASE_URL.replace(nexudus.DOMAIN_URL, address + "/api")
missing = Booking(user, password).get_bookings(Booking_Coworker=7)
assert missing.status_code == 404 and missing.json()["WasSuccessful"] is False, missing.text
assert Checkin(user, "wrong").get_checkins().status_code == 401
print("done")
