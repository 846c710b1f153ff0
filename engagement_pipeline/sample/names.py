"""Given and family names of many cultures, for people who do not exist.

Only lists of common names, in the script their owners would use. Which culture a member comes
from is drawn in `members`. No email addresses, no full names of anyone.
"""

# Names keep their own letters, also those that look like Latin ones.
# ruff: noqa: RUF001

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Culture:
    """Common given and family names; `family_first` where the family name is written first."""

    given: tuple[str, ...]
    family: tuple[str, ...]
    family_first: bool = False
    joint: str = " "

    def full_name(self, given: str, family: str) -> str:
        """A display name, in this culture's order."""
        parts = (family, given) if self.family_first else (given, family)
        return self.joint.join(parts)


def _culture(given: str, family: str, *, family_first: bool = False, joint: str = " ") -> Culture:
    return Culture(tuple(given.split()), tuple(family.split()), family_first, joint)


CULTURES: dict[str, Culture] = {
    "arabic": _culture(
        "Layla Yusuf Salma Karim Noor Tariq Huda Samir Amal Faris ليلى يوسف سلمى كريم",
        "Haddad Mansour Najjar Khoury Saleh Barakat Qasim Darwish Aziz Sabbagh",
    ),
    "bengali": _culture(
        "Ananya Arnab Moushumi Sourav Ritwika Debjit Ishita Tanmoy অনন্যা সৌরভ",
        "Banerjee Chatterjee Sengupta Mukherjee Bhattacharya Das Ghosh Dutta Saha",
    ),
    "chinese": _culture(
        "美玲 志强 晓梅 国华 雅婷 建平 丽娜 文杰",
        "王 李 张 刘 陈 杨 黄 周 吴",
        family_first=True,
        joint="",
    ),
    "english": _culture(
        "Alice Ben Charlotte Dominic Eleanor Frank Grace Henry Imogen Jack Kate Luke Megan Neil "
        "Olive Peter Rosie Simon Tess Will",
        "Ashworth Barker Carter Dawson Ellis Fletcher Goodwin Hartley Ingram Jepson Kirby Lowe "
        "Marsh Norris Osborne Pritchard Rowe Shaw Thorpe Whitlock",
    ),
    "french": _culture(
        "Aurélie Benoît Chloé Étienne Hélène Jérôme Léa Mathieu Noémie Rémi Solène Théo",
        "Lefèvre Bonnet Garnier Dupré Marchand Fournier Chevalier Béranger Maçon Gauthier",
    ),
    "german": _culture(
        "Jürgen Käthe Björn Anneliese Götz Heike Lukas Mareike Sören Ursula Wolfgang Zoë",
        "Müller Schäfer Krüger Weiß Böhm Vogt Lindner Grünwald Pfeiffer Jäger Köhler",
    ),
    "greek": _culture(
        "Ελένη Γιώργος Κατερίνα Νίκος Σοφία Δημήτρης Ιωάννα Πέτρος",
        "Παπαδάκης Νικολαΐδης Βλάχος Γεωργίου Αντωνίου Μακρής Καλλέργης",
    ),
    "hausa": _culture(
        "Aminu Hauwa Ibrahim Maryam Sani Zainab Bashir Halima Nasiru Rukayya",
        "Abubakar Danjuma Garba Lawal Musa Shehu Tanko Yakubu Ɗanlami Ƙaura",
    ),
    "hindi": _culture(
        "Aarav Diya Kabir Meera Rohan Sunita Vikram Neha Pooja Arjun प्रिया राहुल",
        "Sharma Verma Agarwal Joshi Kulkarni Mehta Patel Rao Saxena Chauhan Mishra",
    ),
    "icelandic": _culture(
        "Sigríður Þór Ásta Björk Guðrún Ólafur Hrafn Eydís Jökull",
        "Jónsdóttir Einarsson Þórsdóttir Gunnarsson Helgadóttir Stefánsson",
    ),
    "igbo": _culture(
        "Adaeze Chidi Ngozi Obinna Ifeoma Kelechi Uchenna Amaka Nnamdi Chinwe Ebuka",
        "Okafor Eze Nwosu Obi Onyekachi Umeh Anyanwu Ekwueme Ibe Nwachukwu",
    ),
    "irish": _culture(
        "Aoife Ciarán Gráinne Oisín Róisín Seán Niamh Pádraig Siobhán Eoghan",
        "Byrne Gallagher Kavanagh Nolan Quinlan Sweeney Doherty Keane Mulligan",
    ),
    "japanese": _culture(
        "さくら 健太 陽子 大輔 美咲 翔 由美 直樹 恵 拓也",
        "佐藤 鈴木 高橋 田中 渡辺 伊藤 山本 中村 小林",
        family_first=True,
    ),
    "korean": _culture(
        "민준 서연 지훈 수빈 하은 도윤 예진 현우",
        "김 이 박 최 정 강 조 윤",
        family_first=True,
        joint="",
    ),
    "maori": _culture(
        "Aroha Tāne Hinewai Rangi Ngaire Wiremu Māia Tama Kahurangi Hēmi Marama",
        "Ngata Parata Tūhoe Rāwiri Waititi Paewai Hōhepa Mātāmua",
    ),
    "polish": _culture(
        "Agnieszka Łukasz Małgorzata Paweł Żaneta Krzysztof Zofia Jędrzej Bożena Michał",
        "Wiśniewska Wójcik Kamiński Zając Król Mazur Dąbrowska Sikora Górski",
    ),
    "portuguese": _culture(
        "Ana João Conceição Luís Beatriz Antônio Márcia Tomás Inês Caetano Júlia Otávio Sônia "
        "Vinícius Letícia",
        "Araújo Brandão Carvalho Magalhães Guimarães Leitão Moraes Nóbrega Queirós Rezende "
        "Simões Teixeira Varjão",
    ),
    "samoan": _culture(
        "Sina Tavita Lagi Mose Alofa Ioane Fetu Malia Sefo Teuila",
        "Faleolo Leota Tuilagi Mata'afa Seumanu Leiataua Tofa",
    ),
    "spanish": _culture(
        "Íñigo María José Lucía Ángel Begoña Raúl Sofía Andrés Pilar Ximena Iván",
        "Muñoz Ibáñez Peña Gutiérrez Núñez Ordóñez Castaño Quiñones Vázquez Marín",
    ),
    "tamil": _culture(
        "Kavitha Senthil Anbu Revathi Murugan Deepa Kumaran Malar கவிதா முருகன்",
        "Subramaniam Natarajan Krishnan Ramasamy Pandian Chelvan Arumugam Selvam",
    ),
    "turkish": _culture(
        "Ayşe Çağlar Gülşen Ömer Şule İbrahim Tuğba Uğur Dilâra Işıl",
        "Yıldız Çelik Öztürk Şahin Güneş Aydın Kılıç Doğan Ünal",
    ),
    "ukrainian": _culture(
        "Оксана Тарас Ярина Богдан Соломія Андрій Ївга Юрій",
        "Шевчук Коваль Бондаренко Мельник Гончар Кравець Лисенко",
    ),
    "vietnamese": _culture(
        "Hương Dũng Thảo Quân Ngọc Tuấn Linh Đức Yến Khánh",
        "Nguyễn Trần Phạm Huỳnh Võ Đặng Bùi Đỗ Hồ",
        family_first=True,
    ),
    "yoruba": _culture(
        "Adébáyọ̀ Fúnmiláyọ̀ Ṣadé Olúwaṣeun Títílayọ̀ Káyọ̀dé Yétúndé Babátúndé Abíọ́lá Ìyábọ̀",
        "Adéyẹmí Ògúnlẹ́yẹ Balógun Fáṣọlá Ọláńrewájú Àjàyí Ọ̀jọ́ Bánkọ́lé Akíntọ́lá",
    ),
}
"""Culture by its key; an organisation draws most of its people from the ones it names."""
